//! How many connections an address may hold before anybody there has signed a request.
//!
//! The listener serves so many connections at a time. Without this, one machine that opens them all
//! and says nothing, the server's own included, locks everybody else out.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The connections of whom nobody knows yet, by address.
#[derive(Debug, Default)]
pub(crate) struct Strangers {
    held: Mutex<HashMap<IpAddr, usize>>,
}

/// One connection. It counts until it is known or ends.
#[derive(Debug)]
pub(crate) struct Stranger {
    all: Arc<Strangers>,
    address: IpAddr,
    known: AtomicBool,
}

impl Strangers {
    /// Counts a connection from `address`, unless it has `most` already.
    pub(crate) fn admit(self: &Arc<Self>, address: IpAddr, most: usize) -> Option<Stranger> {
        let address = network(address);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let count = held.entry(address).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Stranger { all: Arc::clone(self), address, known: AtomicBool::new(false) })
    }
}

impl Stranger {
    /// Where it comes from.
    pub(crate) fn address(&self) -> IpAddr {
        self.address
    }

    /// Somebody has signed a request on it.
    pub(crate) fn is_known(&self) {
        if self.known.swap(true, Ordering::Relaxed) {
            return;
        }
        let mut held = self.all.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.address);
            }
        }
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.is_known();
    }
}

/// Of IPv6 the network, for a machine has as many addresses in it as it likes.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => {
            IpAddr::V6((address.to_bits() & !u128::from(u64::MAX)).into())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_holds_so_many_until_they_are_known_or_end() {
        let all = Arc::new(Strangers::default());
        let admit = |address: &str| all.admit(address.parse().unwrap(), 2);
        let (one, two) = (admit("192.0.2.1").unwrap(), admit("::ffff:192.0.2.1").unwrap());
        assert!(admit("192.0.2.1").is_none());
        let other = admit("192.0.2.2").unwrap();
        one.is_known();
        one.is_known();
        let three = admit("192.0.2.1").unwrap();
        assert!(admit("192.0.2.1").is_none());
        drop(two);
        let four = admit("192.0.2.1").unwrap();
        let six = [admit("2001:db8::1").unwrap(), admit("2001:db8::2").unwrap()];
        assert!(admit("2001:db8::3").is_none() && admit("2001:db8:0:1::3").is_some());
        drop((one, three, four, other, six));
        assert!(all.held.lock().unwrap().is_empty());
    }
}
