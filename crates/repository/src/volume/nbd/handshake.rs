//! The fixed newstyle handshake: what the client may ask before it reads.

use std::io::{self, Read, Write};
use std::sync::Arc;

use super::NbdExport;
use super::server::Exports;
use super::wire::{
    ALLOCATION, ALLOCATION_ID, CAN_MULTI_CONN, FIXED_NEWSTYLE, HAS_FLAGS, MAGIC, NO_ZEROES,
    OPTION_MAGIC, READ_ONLY, SEND_DF, info, nonsense, option, read_u16, read_u32, read_u64, reply,
    write_option_reply,
};

/// Bytes of an option's data at most; names have up to 4096.
const MAX_DATA: u32 = 64 << 10;
/// Options that one client may send.
const MAX_OPTIONS: usize = 1000;

/// What was agreed upon.
pub(super) struct Agreed {
    pub(super) export: Arc<dyn NbdExport>,
    pub(super) structured: bool,
    /// Whether the client may ask where the holes are.
    pub(super) allocation: bool,
}

struct Handshake<'a, S> {
    stream: &'a mut S,
    exports: &'a Exports,
    max_request: u32,
    no_zeroes: bool,
    structured: bool,
    /// The export for which the context was set.
    allocation: Option<Vec<u8>>,
}

enum Next {
    Option,
    Transmission(Arc<dyn NbdExport>, Vec<u8>),
    End,
}

/// Goes through the handshake; nothing comes of it when the client only wanted to ask.
pub(super) fn shake_hands<S: Read + Write>(
    stream: &mut S,
    exports: &Exports,
    max_request: u32,
) -> io::Result<Option<Agreed>> {
    let mut greeting = MAGIC.to_be_bytes().to_vec();
    greeting.extend_from_slice(&OPTION_MAGIC.to_be_bytes());
    greeting.extend_from_slice(&(FIXED_NEWSTYLE | NO_ZEROES).to_be_bytes());
    stream.write_all(&greeting)?;
    let flags = read_u32(stream)?;
    if flags & u32::from(FIXED_NEWSTYLE) == 0 || flags > u32::from(FIXED_NEWSTYLE | NO_ZEROES) {
        return Err(nonsense("a client without the fixed newstyle handshake"));
    }
    let mut handshake = Handshake {
        stream,
        exports,
        max_request,
        no_zeroes: flags & u32::from(NO_ZEROES) != 0,
        structured: false,
        allocation: None,
    };
    for _ in 0..MAX_OPTIONS {
        match handshake.option()? {
            Next::Option => {}
            Next::End => return Ok(None),
            Next::Transmission(export, name) => {
                let structured = handshake.structured;
                let allocation = structured && handshake.allocation == Some(name);
                return Ok(Some(Agreed { export, structured, allocation }));
            }
        }
    }
    Err(nonsense("too many options"))
}

/// Takes a counted string off the front.
fn take_string<'a>(data: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(read_u32(data).ok()?).ok()?;
    let (text, rest) = data.split_at_checked(length)?;
    *data = rest;
    Some(text)
}

fn export_flags() -> u16 {
    HAS_FLAGS | READ_ONLY | SEND_DF | CAN_MULTI_CONN
}

impl<S: Read + Write> Handshake<'_, S> {
    fn option(&mut self) -> io::Result<Next> {
        if read_u64(self.stream)? != OPTION_MAGIC {
            return Err(nonsense("an option without its magic number"));
        }
        let (number, length) = (read_u32(self.stream)?, read_u32(self.stream)?);
        if length > MAX_DATA {
            self.reply(number, reply::ERR_TOO_BIG, b"")?;
            return Err(nonsense("an option of absurd length"));
        }
        let mut data = vec![0; length as usize];
        self.stream.read_exact(&mut data)?;
        match number {
            option::EXPORT_NAME => self.export_name(data),
            option::ABORT => {
                self.reply(number, reply::ACK, b"")?;
                Ok(Next::End)
            }
            option::LIST => self.list(&data),
            option::INFO | option::GO => self.go(number, &data),
            option::STRUCTURED_REPLY => {
                if data.is_empty() {
                    self.structured = true;
                    self.reply(number, reply::ACK, b"")
                } else {
                    self.reply(number, reply::ERR_INVALID, b"")
                }
            }
            option::LIST_META_CONTEXT | option::SET_META_CONTEXT => self.context(number, &data),
            _ => self.reply(number, reply::ERR_UNSUP, b""),
        }
    }

    fn reply(&mut self, option: u32, kind: u32, data: &[u8]) -> io::Result<Next> {
        write_option_reply(self.stream, option, kind, data)?;
        Ok(Next::Option)
    }

    /// The old way to begin, which knows no errors.
    fn export_name(&mut self, name: Vec<u8>) -> io::Result<Next> {
        let export = self.exports.find(&name).ok_or_else(|| nonsense("an unknown export"))?;
        let mut message = export.size().to_be_bytes().to_vec();
        message.extend_from_slice(&export_flags().to_be_bytes());
        if !self.no_zeroes {
            message.resize(message.len() + 124, 0);
        }
        self.stream.write_all(&message)?;
        Ok(Next::Transmission(export, name))
    }

    fn list(&mut self, data: &[u8]) -> io::Result<Next> {
        if !data.is_empty() {
            return self.reply(option::LIST, reply::ERR_INVALID, b"");
        }
        let exports = self.exports;
        for name in exports.names() {
            let length = u32::try_from(name.len()).map_err(io::Error::other)?;
            let mut server = length.to_be_bytes().to_vec();
            server.extend_from_slice(name);
            self.reply(option::LIST, reply::SERVER, &server)?;
        }
        self.reply(option::LIST, reply::ACK, b"")
    }

    fn go(&mut self, number: u32, data: &[u8]) -> io::Result<Next> {
        let Some((name, wanted)) = parse_go(data) else {
            return self.reply(number, reply::ERR_INVALID, b"");
        };
        let Some(export) = self.exports.find(name) else {
            return self.reply(number, reply::ERR_UNKNOWN, b"there is no such export");
        };
        let mut about = info::EXPORT.to_be_bytes().to_vec();
        about.extend_from_slice(&export.size().to_be_bytes());
        about.extend_from_slice(&export_flags().to_be_bytes());
        self.reply(number, reply::INFO, &about)?;
        if wanted.contains(&info::BLOCK_SIZE) {
            let mut sizes = info::BLOCK_SIZE.to_be_bytes().to_vec();
            for size in [1, export.preferred_block_size(), self.max_request] {
                sizes.extend_from_slice(&size.to_be_bytes());
            }
            self.reply(number, reply::INFO, &sizes)?;
        }
        self.reply(number, reply::ACK, b"")?;
        Ok(if number == option::GO {
            Next::Transmission(export, name.to_vec())
        } else {
            Next::Option
        })
    }

    fn context(&mut self, number: u32, data: &[u8]) -> io::Result<Next> {
        let setting = number == option::SET_META_CONTEXT;
        if setting {
            self.allocation = None;
        }
        let Some((name, queries)) = parse_context(data) else {
            return self.reply(number, reply::ERR_INVALID, b"");
        };
        if setting && !self.structured {
            return self.reply(number, reply::ERR_INVALID, b"it needs structured replies");
        }
        if self.exports.find(name).is_none() {
            return self.reply(number, reply::ERR_UNKNOWN, b"there is no such export");
        }
        let all = !setting && (queries.is_empty() || queries.contains(&&b"base:"[..]));
        if all || queries.contains(&ALLOCATION) {
            let id = if setting { ALLOCATION_ID } else { 0 };
            let mut context = id.to_be_bytes().to_vec();
            context.extend_from_slice(ALLOCATION);
            self.reply(number, reply::META_CONTEXT, &context)?;
            if setting {
                self.allocation = Some(name.to_vec());
            }
        }
        self.reply(number, reply::ACK, b"")
    }
}

/// The name and the kinds of information of INFO and GO.
fn parse_go(mut data: &[u8]) -> Option<(&[u8], Vec<u16>)> {
    let name = take_string(&mut data)?;
    let count = read_u16(&mut data).ok()?;
    let wanted: Vec<_> =
        data.chunks_exact(2).map(|two| u16::from_be_bytes([two[0], two[1]])).collect();
    (data.len() == 2 * usize::from(count)).then_some((name, wanted))
}

/// The name and the queries of the options about contexts.
fn parse_context(mut data: &[u8]) -> Option<(&[u8], Vec<&[u8]>)> {
    let name = take_string(&mut data)?;
    let count = read_u32(&mut data).ok()?;
    let mut queries = Vec::new();
    // Each takes four bytes at least, so the data bounds this.
    for _ in 0..count {
        queries.push(take_string(&mut data)?);
    }
    data.is_empty().then_some((name, queries))
}
