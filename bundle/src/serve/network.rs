//! This machine's address, and how a phone's camera reads it.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use anyhow::{Context, bail};

/// This machine's address in the network that leads outside.
///
/// # Errors
/// When there is no such network.
pub fn own_address() -> anyhow::Result<Ipv4Addr> {
    // Nothing is sent: connecting a datagram socket only picks the way, and with it the address
    // that others see. The target is of a block for documentation (RFC 5737).
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket
        .connect((Ipv4Addr::new(192, 0, 2, 1), 9))
        .context("--lan: this machine is in no network")?;
    match socket.local_addr()? {
        SocketAddr::V4(address) => Ok(*address.ip()),
        SocketAddr::V6(address) => bail!("--lan: {address} is no IPv4 address"),
    }
}

/// The address as a picture for a phone's camera; none where it is too long for one.
pub fn qr_code(address: &str) -> Option<String> {
    let code = fast_qr::QRBuilder::new(address).build().ok()?;
    Some(code.to_str())
}
