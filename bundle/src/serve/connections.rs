//! Which connections are open, what they hold, and which of them makes room for another.
//!
//! A connection and each of its answers under way count as one descriptor: the socket, the file.
//! Where an address holds its share, or all together hold everything, the connection that has made
//! no progress for longest is closed, unless that is not long ago; then the newcomer is turned
//! away. So clients that only wait keep nobody out, and a flood does not end downloads.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::limits::Limits;

/// All open connections. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Connections(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limits: Limits,
    start: Instant,
    next: AtomicU64,
    open: Mutex<HashMap<u64, Arc<State>>>,
}

#[derive(Debug)]
struct State {
    peer: IpAddr,
    /// Milliseconds from [`Shared::start`] to the latest progress.
    progress: AtomicU64,
    has_asked: AtomicBool,
    answers: AtomicUsize,
    dismissed: Notify,
}

impl State {
    fn descriptors(&self) -> usize {
        1 + self.answers.load(Ordering::Relaxed)
    }
}

/// One open connection; it counts until its last clone is dropped.
#[derive(Debug, Clone)]
pub(super) struct Connection(Arc<Entry>);

#[derive(Debug)]
struct Entry {
    id: u64,
    state: Arc<State>,
    all: Connections,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.all.lock().remove(&self.id);
    }
}

impl Connections {
    pub(super) fn new(limits: Limits) -> Self {
        Connections(Arc::new(Shared {
            limits,
            start: Instant::now(),
            next: AtomicU64::new(0),
            open: Mutex::default(),
        }))
    }

    /// Counts a new connection; `None` where there is no room for it.
    pub(super) fn admit(&self, peer: IpAddr) -> Option<Connection> {
        let mut open = self.lock();
        let limits = &self.0.limits;
        let crowded = if held_by(&open, peer) >= limits.per_address {
            Some(peer)
        } else if held(&open) >= limits.total {
            busiest(&open)
        } else {
            None
        };
        if let Some(address) = crowded {
            self.dismiss_idlest(&mut open, address)?;
        }
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        let state = Arc::new(State {
            peer,
            progress: AtomicU64::new(self.now()),
            has_asked: AtomicBool::new(false),
            answers: AtomicUsize::new(0),
            dismissed: Notify::new(),
        });
        open.insert(id, state.clone());
        drop(open);
        Some(Connection(Arc::new(Entry { id, state, all: self.clone() })))
    }

    /// Tells a connection of `address` to end; `None` where all have made progress lately.
    fn dismiss_idlest(&self, open: &mut HashMap<u64, Arc<State>>, address: IpAddr) -> Option<()> {
        let of_address = open.iter().filter(|(_, state)| state.peer == address);
        let idlest = of_address.min_by_key(|(_, state)| state.progress.load(Ordering::Relaxed));
        let (&id, state) = idlest?;
        if self.since(state) < self.0.limits.yielding {
            return None;
        }
        state.dismissed.notify_one();
        open.remove(&id);
        Some(())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<State>>> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.0.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn since(&self, state: &State) -> Duration {
        let last = state.progress.load(Ordering::Relaxed);
        Duration::from_millis(self.now().saturating_sub(last))
    }
}

fn held(open: &HashMap<u64, Arc<State>>) -> usize {
    open.values().map(|state| state.descriptors()).sum()
}

fn held_by(open: &HashMap<u64, Arc<State>>, peer: IpAddr) -> usize {
    open.values().filter(|state| state.peer == peer).map(|state| state.descriptors()).sum()
}

/// The address that holds most.
fn busiest(open: &HashMap<u64, Arc<State>>) -> Option<IpAddr> {
    let mut sums: HashMap<IpAddr, usize> = HashMap::new();
    for state in open.values() {
        *sums.entry(state.peer).or_default() += state.descriptors();
    }
    sums.into_iter().max_by_key(|&(_, sum)| sum).map(|(peer, _)| peer)
}

impl Connection {
    /// A request's header is complete.
    pub(super) fn asked(&self) {
        self.0.state.has_asked.store(true, Ordering::Relaxed);
        self.progressed();
    }

    pub(super) fn progressed(&self) {
        self.0.state.progress.store(self.0.all.now(), Ordering::Relaxed);
    }

    /// Counts an answer; `None` where the client's address or the server has too many.
    pub(super) fn begin_answer(&self) -> Option<Answer> {
        let Entry { state, all, .. } = &*self.0;
        let open = all.lock();
        let limits = &all.0.limits;
        if held_by(&open, state.peer) > limits.per_address || held(&open) > limits.total {
            return None;
        }
        state.answers.fetch_add(1, Ordering::Relaxed);
        Some(Answer(self.clone()))
    }

    /// Returns when the connection is to be closed: it made no progress for too long, or has to
    /// make room.
    pub(super) async fn used_up(&self) {
        tokio::select! {
            () = self.0.state.dismissed.notified() => {}
            () = self.stalled() => {}
        }
    }

    async fn stalled(&self) {
        let Entry { state, all, .. } = &*self.0;
        loop {
            let has_asked = state.has_asked.load(Ordering::Relaxed);
            let allowed = if has_asked { all.0.limits.idle } else { all.0.limits.header };
            let left = allowed.saturating_sub(all.since(state));
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left).await;
        }
    }
}

/// An answer under way; it counts until it is dropped.
#[derive(Debug)]
pub(super) struct Answer(Connection);

impl Answer {
    pub(super) fn progressed(&self) {
        self.0.progressed();
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.0.0.state.answers.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that fails says where")]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn connections(yielding: Duration) -> Connections {
        let limits = Limits { yielding, total: 4, per_address: 2, ..limits() };
        Connections::new(limits)
    }

    fn limits() -> Limits {
        Limits::of_this_process().unwrap()
    }

    fn client(number: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, number).into()
    }

    #[test]
    fn an_address_gets_its_share_and_no_more() {
        let all = connections(Duration::MAX);
        let held = [all.admit(client(1)), all.admit(client(1))];
        assert!(held.iter().all(Option::is_some));
        assert!(all.admit(client(1)).is_none());
        assert!(all.admit(client(2)).is_some(), "another is let in");
        drop(held);
        assert!(all.admit(client(1)).is_some(), "what is closed does not count");
        assert!(all.lock().is_empty());
    }

    #[test]
    fn who_makes_no_progress_makes_room_in_the_address_that_holds_most() {
        let all = connections(Duration::ZERO);
        let quiet = all.admit(client(1)).unwrap();
        quiet.0.state.progress.store(0, Ordering::Relaxed);
        let answers = quiet.begin_answer();
        let others = [all.admit(client(2)), all.admit(client(3))];
        assert!(answers.is_some() && others.iter().all(Option::is_some));
        assert_eq!(held(&all.lock()), 4);
        assert!(all.admit(client(4)).is_some());
        assert_eq!(held_by(&all.lock(), client(1)), 0);
    }

    #[test]
    fn answers_count_and_end() {
        let all = connections(Duration::MAX);
        let connection = all.admit(client(1)).unwrap();
        let first = connection.begin_answer();
        assert!(first.is_some());
        let second = connection.begin_answer();
        assert!(second.is_some(), "a connection can always have the answer that it came for");
        assert!(connection.begin_answer().is_none());
        drop((first, second));
        assert!(connection.begin_answer().is_some());
    }
}
