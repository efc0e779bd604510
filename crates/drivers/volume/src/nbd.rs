//! A client of the NBD protocol, for the images that `qemu-nbd` opens.
//!
//! The protocol is the public one of the Network Block Device project (`doc/proto.md`): the fixed
//! newstyle handshake, structured replies, and contexts, which tell holes and dirty blocks apart. All
//! integers are big endian. What the server sends is checked before it is believed.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use provault_driver::BlockRange;

const MAGIC: u64 = 0x4e42_444d_4147_4943;
const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
const STRUCTURED_REPLY_MAGIC: u32 = 0x668e_33ef;
/// Fixed newstyle, and no padding: the flags of the handshake, both ways.
const HANDSHAKE_FLAGS: u16 = 3;
const READ_ONLY: u16 = 1 << 1;

const OPTION_GO: u32 = 7;
const OPTION_STRUCTURED: u32 = 8;
const OPTION_CONTEXT: u32 = 10;
const REPLY_ACK: u32 = 1;
const REPLY_INFO: u32 = 3;
const REPLY_CONTEXT: u32 = 4;
const REPLY_ERROR: u32 = 1 << 31;
const INFO_EXPORT: u16 = 0;

const READ: u16 = 0;
const WRITE: u16 = 1;
const DISCONNECT: u16 = 2;
const FLUSH: u16 = 3;
const STATUS: u16 = 7;

const CHUNK_NONE: u16 = 0;
const CHUNK_DATA: u16 = 1;
const CHUNK_HOLE: u16 = 2;
const CHUNK_STATUS: u16 = 5;
const CHUNK_ERROR: u16 = 1 << 15;
const DONE: u16 = 1;

/// Bytes of one request of data at most: what every server takes.
const LONGEST: usize = 32 << 20;
/// Bytes of a range whose status is asked for at a time.
const STATUS_RANGE: u64 = 1 << 30;
/// Bytes of an answer that is no data at most.
const LONGEST_ANSWER: u32 = 16 << 20;

/// The context that tells holes.
const ALLOCATION: &str = "base:allocation";

/// A part of the export and the flags that a context has for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Status {
    pub range: BlockRange,
    pub flags: u32,
}

/// Which context is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Context {
    /// Bit 1: reads as zeros.
    Allocation,
    /// Bit 0: changed since the bitmap was made.
    Bitmap,
}

/// A connection that stands.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: UnixStream,
    pub size: u64,
    allocation: Option<u32>,
    bitmap: Option<u32>,
    cookie: u64,
}

/// What a reply is put together from.
enum Into<'a> {
    Nothing,
    Data { offset: u64, buffer: &'a mut [u8], filled: u64 },
    Status { context: u32, from: u64, found: &'a mut Vec<Status> },
}

fn nonsense(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("qemu-nbd sent {what}"))
}

fn number<const N: usize>(from: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn u16_of(from: &mut impl Read) -> io::Result<u16> {
    number(from).map(u16::from_be_bytes)
}

fn u32_of(from: &mut impl Read) -> io::Result<u32> {
    number(from).map(u32::from_be_bytes)
}

fn u64_of(from: &mut impl Read) -> io::Result<u64> {
    number(from).map(u64::from_be_bytes)
}

fn length_of(bytes: usize) -> io::Result<u32> {
    u32::try_from(bytes).map_err(io::Error::other)
}

impl Connection {
    /// Connects, and agrees on what is exported without a name; with `bitmap` the changes that it
    /// holds can be asked for.
    pub fn open(socket: &Path, bitmap: Option<&str>, writable: bool) -> io::Result<Self> {
        let mut stream = UnixStream::connect(socket)?;
        if u64_of(&mut stream)? != MAGIC || u64_of(&mut stream)? != OPTION_MAGIC {
            return Err(nonsense("another greeting than NBD's"));
        }
        if u16_of(&mut stream)? & HANDSHAKE_FLAGS != HANDSHAKE_FLAGS {
            return Err(nonsense("an old handshake"));
        }
        stream.write_all(&u32::from(HANDSHAKE_FLAGS).to_be_bytes())?;
        let mut connection = Self { stream, size: 0, allocation: None, bitmap: None, cookie: 0 };
        connection.option(OPTION_STRUCTURED, b"")?;
        connection.agree_on_contexts(bitmap)?;
        let flags = connection.go()?;
        if writable && flags & READ_ONLY != 0 {
            return Err(nonsense("an export that cannot be written"));
        }
        Ok(connection)
    }

    /// Sends an option, and returns the data of its replies up to the acknowledgement.
    fn option(&mut self, option: u32, data: &[u8]) -> io::Result<Vec<(u32, Vec<u8>)>> {
        let mut message = OPTION_MAGIC.to_be_bytes().to_vec();
        message.extend_from_slice(&option.to_be_bytes());
        message.extend_from_slice(&length_of(data.len())?.to_be_bytes());
        message.extend_from_slice(data);
        self.stream.write_all(&message)?;
        let mut replies = Vec::new();
        loop {
            if u64_of(&mut self.stream)? != OPTION_REPLY_MAGIC
                || u32_of(&mut self.stream)? != option
            {
                return Err(nonsense("the reply to another option"));
            }
            let kind = u32_of(&mut self.stream)?;
            let data = self.answer()?;
            match kind {
                REPLY_ACK => return Ok(replies),
                kind if kind & REPLY_ERROR != 0 => {
                    let why = String::from_utf8_lossy(&data).into_owned();
                    return Err(io::Error::other(format!(
                        "qemu-nbd refused option {option}: {why}"
                    )));
                }
                kind if replies.len() < 100 => replies.push((kind, data)),
                _ => return Err(nonsense("replies without end")),
            }
        }
    }

    fn answer(&mut self) -> io::Result<Vec<u8>> {
        let length = u32_of(&mut self.stream)?;
        if length > LONGEST_ANSWER {
            return Err(nonsense("an answer of absurd length"));
        }
        let mut data = vec![0; length as usize];
        self.stream.read_exact(&mut data)?;
        Ok(data)
    }

    fn agree_on_contexts(&mut self, bitmap: Option<&str>) -> io::Result<()> {
        let dirty = bitmap.map(|name| format!("qemu:dirty-bitmap:{name}"));
        let queries: Vec<&str> =
            [Some(ALLOCATION), dirty.as_deref()].into_iter().flatten().collect();
        let mut data = 0_u32.to_be_bytes().to_vec();
        data.extend_from_slice(&length_of(queries.len())?.to_be_bytes());
        for query in &queries {
            data.extend_from_slice(&length_of(query.len())?.to_be_bytes());
            data.extend_from_slice(query.as_bytes());
        }
        for (kind, data) in self.option(OPTION_CONTEXT, &data)? {
            let Some((id, name)) = data.split_first_chunk::<4>() else { continue };
            let id = Some(u32::from_be_bytes(*id));
            if kind == REPLY_CONTEXT && name == ALLOCATION.as_bytes() {
                self.allocation = id;
            } else if kind == REPLY_CONTEXT && dirty.as_ref().is_some_and(|d| name == d.as_bytes())
            {
                self.bitmap = id;
            }
        }
        if dirty.is_some() && self.bitmap.is_none() {
            return Err(nonsense("no such bitmap"));
        }
        Ok(())
    }

    /// Ends the handshake; returns the flags of the export.
    fn go(&mut self) -> io::Result<u16> {
        for (kind, data) in self.option(OPTION_GO, &[0; 6])? {
            let mut data = data.as_slice();
            if kind == REPLY_INFO && u16_of(&mut data)? == INFO_EXPORT {
                self.size = u64_of(&mut data)?;
                return u16_of(&mut data);
            }
        }
        Err(nonsense("nothing of the export's size"))
    }

    fn request(&mut self, kind: u16, range: BlockRange, data: &[u8]) -> io::Result<()> {
        self.cookie += 1;
        let mut message = REQUEST_MAGIC.to_be_bytes().to_vec();
        message.extend_from_slice(&0_u16.to_be_bytes());
        message.extend_from_slice(&kind.to_be_bytes());
        message.extend_from_slice(&self.cookie.to_be_bytes());
        message.extend_from_slice(&range.offset.to_be_bytes());
        let length = u32::try_from(range.length).map_err(io::Error::other)?;
        message.extend_from_slice(&length.to_be_bytes());
        self.stream.write_all(&message)?;
        self.stream.write_all(data)
    }

    /// Reads the reply to the last request.
    fn reply(&mut self, mut into: Into<'_>) -> io::Result<()> {
        let mut failed = None;
        loop {
            match u32_of(&mut self.stream)? {
                SIMPLE_REPLY_MAGIC => {
                    let error = u32_of(&mut self.stream)?;
                    self.check_cookie()?;
                    if !matches!(into, Into::Nothing) && error == 0 {
                        return Err(nonsense("a reply without its structure"));
                    }
                    return refused(error);
                }
                STRUCTURED_REPLY_MAGIC => {}
                _ => return Err(nonsense("something that is no reply")),
            }
            let (flags, kind) = (u16_of(&mut self.stream)?, u16_of(&mut self.stream)?);
            self.check_cookie()?;
            let error = self.chunk(kind, &mut into)?;
            failed = failed.or(error);
            if flags & DONE != 0 {
                break;
            }
        }
        if let Some(error) = failed {
            return refused(error);
        }
        match into {
            Into::Data { buffer, filled, .. } if filled != buffer.len() as u64 => {
                Err(nonsense("less than it was asked for"))
            }
            _ => Ok(()),
        }
    }

    fn check_cookie(&mut self) -> io::Result<()> {
        if u64_of(&mut self.stream)? == self.cookie {
            return Ok(());
        }
        Err(nonsense("the reply to another request"))
    }

    /// Reads one chunk of a reply; returns the error that it tells, if it tells one.
    fn chunk(&mut self, kind: u16, into: &mut Into<'_>) -> io::Result<Option<u32>> {
        match (kind, into) {
            (CHUNK_DATA, Into::Data { offset, buffer, filled }) => {
                let length = u32_of(&mut self.stream)?;
                let at = u64_of(&mut self.stream)?;
                let part = part_of(buffer, *offset, at, u64::from(length).checked_sub(8))?;
                self.stream.read_exact(part)?;
                *filled += part.len() as u64;
                Ok(None)
            }
            (CHUNK_HOLE, Into::Data { offset, buffer, filled }) => {
                let data = self.answer()?;
                let mut data = data.as_slice();
                let (at, length) = (u64_of(&mut data)?, u32_of(&mut data)?);
                let part = part_of(buffer, *offset, at, Some(u64::from(length)))?;
                part.fill(0);
                *filled += part.len() as u64;
                Ok(None)
            }
            (CHUNK_STATUS, Into::Status { context, from, found }) => {
                let data = self.answer()?;
                let (id, parts) =
                    data.split_first_chunk::<4>().ok_or_else(|| nonsense("no status"))?;
                if u32::from_be_bytes(*id) != *context {
                    return Ok(None);
                }
                for pair in parts.chunks_exact(8) {
                    let mut pair = pair;
                    let (length, flags) = (u32_of(&mut pair)?, u32_of(&mut pair)?);
                    let range = BlockRange { offset: *from, length: u64::from(length) };
                    found.push(Status { range, flags });
                    *from = range.end();
                }
                Ok(None)
            }
            (kind, _) if kind & CHUNK_ERROR != 0 => {
                let data = self.answer()?;
                Ok(Some(u32_of(&mut data.as_slice())?))
            }
            (CHUNK_NONE, _) => self.answer().map(|_| None),
            _ => Err(nonsense("an unknown part of a reply")),
        }
    }

    /// Fills `buffer` with the bytes from `offset` on.
    pub fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let mut at = offset;
        for part in buffer.chunks_mut(LONGEST) {
            let range = BlockRange { offset: at, length: part.len() as u64 };
            self.request(READ, range, b"")?;
            self.reply(Into::Data { offset: at, buffer: part, filled: 0 })?;
            at = range.end();
        }
        Ok(())
    }

    /// Writes `bytes` from `offset` on.
    pub fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut at = offset;
        for part in bytes.chunks(LONGEST) {
            let range = BlockRange { offset: at, length: part.len() as u64 };
            self.request(WRITE, range, part)?;
            self.reply(Into::Nothing)?;
            at = range.end();
        }
        Ok(())
    }

    /// Returns once what was written is durable.
    pub fn flush(&mut self) -> io::Result<()> {
        self.request(FLUSH, BlockRange { offset: 0, length: 0 }, b"")?;
        self.reply(Into::Nothing)
    }

    /// What a context says of `range`, in ascending order, without gaps and cut to it.
    pub fn status(&mut self, context: Context, range: BlockRange) -> io::Result<Vec<Status>> {
        let id = match context {
            Context::Allocation => self.allocation,
            Context::Bitmap => self.bitmap,
        };
        let Some(id) = id else { return Err(io::Error::from(io::ErrorKind::Unsupported)) };
        let mut found: Vec<Status> = Vec::new();
        let mut at = range.offset;
        while at < range.end() {
            let length = (range.end() - at).min(STATUS_RANGE);
            let mut more = Vec::new();
            self.request(STATUS, BlockRange { offset: at, length }, b"")?;
            self.reply(Into::Status { context: id, from: at, found: &mut more })?;
            if more.iter().all(|status| status.range.length == 0) {
                return Err(nonsense("no status of a part of the image"));
            }
            for mut status in more {
                let end = status.range.end().min(range.end());
                status.range = BlockRange::between(status.range.offset, end);
                at = at.max(end);
                if status.range.length > 0 {
                    found.push(status);
                }
            }
        }
        Ok(found)
    }

    /// Says goodbye. The server answers nothing to it.
    pub fn close(mut self) {
        // One that is gone needs none.
        let _ = self.request(DISCONNECT, BlockRange { offset: 0, length: 0 }, b"");
    }
}

fn refused(error: u32) -> io::Result<()> {
    match i32::try_from(error) {
        Ok(0) => Ok(()),
        // The numbers of the protocol are Linux's.
        Ok(error) => Err(io::Error::from_raw_os_error(error)),
        Err(_) => Err(nonsense("an unknown error")),
    }
}

/// The part of `buffer`, which begins at `offset` of the export, that a chunk at `at` fills.
fn part_of(buffer: &mut [u8], offset: u64, at: u64, length: Option<u64>) -> io::Result<&mut [u8]> {
    let outside = || nonsense("data that was not asked for");
    let start = at.checked_sub(offset).and_then(|start| usize::try_from(start).ok());
    let length = length.and_then(|length| usize::try_from(length).ok());
    let (start, length) = start.zip(length).ok_or_else(outside)?;
    buffer.get_mut(start..).and_then(|rest| rest.get_mut(..length)).ok_or_else(outside)
}
