//! Which names the server answers to.
//!
//! A page of a stranger can make its own name resolve to this machine (DNS rebinding) and then
//! counts as the same site as the server. Its requests still carry its own name, so a name that is
//! not ours is refused. An address is ours where the client has connected to it.

use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use axum::http::header::HOST;
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderValue, StatusCode};

/// The name that every system has for itself.
const LOCALHOST: &str = "localhost";
/// Longest name of DNS (RFC 1035).
const MAX_NAME: usize = 253;

/// A name or an address of a host, without a port, in lower case and without the dot of the root.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostName(String);

impl HostName {
    pub(super) fn localhost() -> Self {
        HostName(LOCALHOST.to_owned())
    }

    /// The name, as a certificate has it: an IPv6 address without brackets.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn address(&self) -> Option<IpAddr> {
        self.0.parse().ok()
    }
}

impl From<IpAddr> for HostName {
    fn from(address: IpAddr) -> Self {
        HostName(address.to_canonical().to_string())
    }
}

impl std::fmt::Display for HostName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for HostName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || {
            format!("{text:?}: expected a host name or an address without a port, as model.local")
        };
        let bracketed = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        if let Some(inner) = bracketed {
            return inner
                .parse::<Ipv6Addr>()
                .map(|ip| IpAddr::V6(ip).into())
                .map_err(|_| expected());
        }
        let text = text.strip_suffix('.').unwrap_or(text);
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(address.into());
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let is_label = |label: &str| !label.is_empty() && label.bytes().all(allowed);
        if text.len() <= MAX_NAME && text.split('.').all(is_label) {
            Ok(HostName(text.to_ascii_lowercase()))
        } else {
            Err(expected())
        }
    }
}

/// The names that are answered beside the addresses of this machine.
#[derive(Debug, Clone)]
pub(super) struct Hosts(Vec<HostName>);

impl Hosts {
    /// `localhost`, and what the user names.
    pub(super) fn new(named: &[HostName]) -> Self {
        Hosts(std::iter::once(HostName::localhost()).chain(named.iter().cloned()).collect())
    }

    /// Whether a request is meant for this server, which it reached at the address `local`. Every
    /// name in it must be one of ours: the header `Host`, and that of the request's target
    /// (HTTP/2's `:authority`).
    ///
    /// # Errors
    /// 400 where a request does not say whom it is meant for, or not as RFC 9112 (3.2) demands;
    /// 421 where it is another.
    pub(super) fn check(&self, request: &Parts, local: IpAddr) -> Result<(), StatusCode> {
        let mut headers = request.headers.get_all(HOST).iter();
        let header = headers.next().map(header_authority).transpose()?;
        if headers.next().is_some() {
            return Err(StatusCode::BAD_REQUEST);
        }
        let target = request.uri.authority().cloned();
        if header.is_none() && target.is_none() {
            return Err(StatusCode::BAD_REQUEST);
        }
        for authority in header.iter().chain(&target) {
            let name = host(authority).ok_or(StatusCode::BAD_REQUEST)?;
            if !self.knows(&name, local) {
                return Err(StatusCode::MISDIRECTED_REQUEST);
            }
        }
        Ok(())
    }

    fn knows(&self, name: &HostName, local: IpAddr) -> bool {
        let is_own = |address: IpAddr| address.is_loopback() || address == local.to_canonical();
        name.address().is_some_and(is_own) || self.0.contains(name)
    }
}

fn header_authority(value: &HeaderValue) -> Result<Authority, StatusCode> {
    Authority::try_from(value.as_bytes()).map_err(|_| StatusCode::BAD_REQUEST)
}

/// The host of an authority that is a host and perhaps a port, nothing else.
fn host(authority: &Authority) -> Option<HostName> {
    let rest = authority.as_str().strip_prefix(authority.host())?;
    let is_port = |port: &str| {
        port.is_empty() || (port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok())
    };
    let is_plain = rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port);
    is_plain.then(|| authority.host().parse().ok()).flatten()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that fails says where")]
mod tests {
    use axum::http::Request;

    use super::*;

    fn check(target: &str, hosts: &[&str]) -> u16 {
        let named = ["model.local", "fd00::7"].map(|name| name.parse().unwrap());
        let mut request = Request::builder().uri(target);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let local = "192.168.1.5".parse().unwrap();
        Hosts::new(&named).check(&parts, local).err().map_or(200, |status| status.as_u16())
    }

    #[test]
    fn names_and_addresses_of_this_machine_are_answered() {
        for host in [
            "localhost",
            "LocalHost:8080",
            "localhost.",
            "localhost.:1",
            "localhost:",
            "127.0.0.1:8080",
            "127.0.0.1.",
            "[::1]:8080",
            "[0:0:0:0:0:0:0:1]",
            "[::ffff:127.0.0.1]",
            "192.168.1.5:8080",
            "MODEL.local.:443",
            "[fd00::7]",
            "[FD00:0::7]:9",
        ] {
            assert_eq!(check("/", &[host]), 200, "{host}");
            assert_eq!(check(&format!("https://{host}/"), &[]), 200, "{host} as :authority");
        }
    }

    #[test]
    fn others_are_not() {
        for host in [
            "attacker.example",
            "localhost.attacker.example",
            "127.0.0.1.attacker.example",
            "xlocalhost",
            "192.168.1.6",
            "0.0.0.0",
            "127.1",
            "2130706433",
            "0x7f.0.0.1",
            "[::2]",
            "[::]",
        ] {
            assert_eq!(check("/", &[host]), 421, "{host}");
            assert_eq!(check(&format!("http://{host}/"), &["localhost"]), 421, "{host} as target");
            assert_eq!(check("http://localhost/", &[host]), 421, "{host} beside a target");
        }
    }

    #[test]
    fn what_is_not_a_host_is_a_bad_request() {
        assert_eq!(check("/", &[]), 400);
        assert_eq!(check("/", &["localhost", "localhost"]), 400);
        for host in [
            "",
            ":8080",
            "localhost:99999",
            "localhost:8080:1",
            "localhost:a",
            "user@localhost",
            "localhost/x",
            "local host",
            "localhost..",
            "::1",
            "[::1",
            "[::1]x",
            "[localhost]",
        ] {
            assert_eq!(check("/", &[host]), 400, "{host}");
        }
    }

    #[test]
    fn a_name_is_taken_without_a_port_only() {
        assert_eq!("Model.LOCAL.".parse::<HostName>().unwrap().as_str(), "model.local");
        assert_eq!("[FD00::7]".parse::<HostName>().unwrap().as_str(), "fd00::7");
        for name in ["model.local:80", "http://model", "", ".", "a..b", "*", &"a".repeat(254)] {
            assert!(name.parse::<HostName>().is_err(), "{name}");
        }
    }
}
