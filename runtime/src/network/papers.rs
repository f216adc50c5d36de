//! What both sides of a handshake show beside their proof: tickets, and words of later versions.
//!
//! A ticket is a proof that someone beyond the group's key vouches for its bearer. Dialer and
//! welcomer both show theirs, members and clients alike, in the frame that carries the proof.
//! Invariant: papers are looked at only once that proof is verified, and all of them together
//! fit, with everything else, into what a stranger may send.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::network::{Code, code::Refusal};

/// What one side shows.
///
/// No group demands tickets yet. Whoever shows some is let in, or not, as if it had shown none:
/// they are held against the limits and then forgotten. A node may thus carry them before the
/// groups it joins can read them. The reverse is not dangerous: a group that will demand tickets
/// says so in what its id covers, so that a node which cannot check them finds no such group.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Papers {
    /// In the order in which they are to be tried.
    pub(crate) tickets: Vec<Bytes>,
    /// By ascending kind, so that none can be there twice.
    pub(crate) extensions: Vec<Extension>,
}

/// Something that a version with the same number may leave out, and that one which does not know
/// it passes over. What must not be passed over is a new version instead.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Extension {
    /// What it is. No kind is given away yet.
    pub(crate) kind: u16,
    pub(crate) content: Bytes,
}

impl Papers {
    /// Whether they keep to the limits.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        let Self { tickets, extensions } = self;
        at_most("tickets", tickets.len(), TICKETS_MAX)?;
        for ticket in tickets {
            at_most("bytes in a ticket", ticket.len(), TICKET_BYTES_MAX)?;
        }
        at_most("extensions", extensions.len(), EXTENSIONS_MAX)?;
        for extension in extensions {
            at_most("bytes in an extension", extension.content.len(), EXTENSION_BYTES_MAX)?;
        }
        match extensions.windows(2).find(|pair| pair[0].kind >= pair[1].kind) {
            None => Ok(()),
            Some(pair) => Err(Code::InvalidHandshake.because(format!(
                "extension {} comes after {}, but their kinds must ascend",
                pair[1].kind, pair[0].kind
            ))),
        }
    }
}

fn at_most(what: &str, count: usize, count_max: usize) -> Result<(), Refusal> {
    match count <= count_max {
        true => Ok(()),
        false => Err(Code::InvalidHandshake
            .because(format!("{count} {what}, but at most {count_max} are allowed"))),
    }
}

pub(crate) const TICKETS_MAX: usize = 4;
/// Room for a signature, a chain of few keys and some claims.
pub(crate) const TICKET_BYTES_MAX: usize = 640;
pub(crate) const EXTENSIONS_MAX: usize = 4;
pub(crate) const EXTENSION_BYTES_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    fn tickets(count: usize, bytes: usize) -> Papers {
        Papers { tickets: vec![Bytes::from(vec![7; bytes]); count], ..Papers::default() }
    }

    fn extensions(kinds: impl IntoIterator<Item = u16>, bytes: usize) -> Papers {
        let content = Bytes::from(vec![7; bytes]);
        let extension = |kind| Extension { kind, content: content.clone() };
        Papers { extensions: kinds.into_iter().map(extension).collect(), ..Papers::default() }
    }

    #[test]
    fn papers_within_their_limits_pass_whatever_they_say() {
        for papers in [
            Papers::default(),
            tickets(TICKETS_MAX, TICKET_BYTES_MAX),
            tickets(1, 0),
            extensions([0, 7, 40_000, u16::MAX], EXTENSION_BYTES_MAX),
        ] {
            assert_eq!(papers.check(), Ok(()), "{papers:?}");
        }
    }

    #[test]
    fn each_limit_is_named_with_what_was_there_and_what_is_allowed() {
        for (papers, reason) in [
            (tickets(5, 1), "5 tickets, but at most 4 are allowed"),
            (tickets(1, 641), "641 bytes in a ticket, but at most 640 are allowed"),
            (extensions(0..5, 1), "5 extensions, but at most 4 are allowed"),
            (extensions([1], 129), "129 bytes in an extension, but at most 128 are allowed"),
            (extensions([3, 3], 1), "extension 3 comes after 3, but their kinds must ascend"),
            (extensions([4, 2], 1), "extension 2 comes after 4, but their kinds must ascend"),
        ] {
            let refusal = papers.check().expect_err(reason);
            assert_eq!((refusal.code, &*refusal.reason), (Code::InvalidHandshake, reason));
        }
    }
}
