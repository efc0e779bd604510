//! The transmission phase: requests and their replies.

use std::io::{self, Read, Write};
use std::sync::{Mutex, PoisonError};

use super::super::range::ByteRange;
use super::handshake::Agreed;
use super::wire::{
    ALLOCATION_ID, EINVAL, EIO, EOVERFLOW, EPERM, FLAG_DF, FLAG_REQ_ONE, Request, STATE_HOLE_ZERO,
    chunk, command, nonsense, write_chunk, write_simple,
};

/// Bytes of data that a connection holds at a time, but for the one that holds [`Shared::large`].
const PIECE: u32 = 1 << 20;
/// Extents in one answer about holes.
const MAX_EXTENTS: usize = 4096;

/// What all connections of a server share.
pub(super) struct Shared {
    /// Bytes of a request at most.
    pub(super) max_request: u32,
    /// Replies in one piece beyond [`PIECE`] are made one at a time: this bounds the memory.
    pub(super) large: Mutex<()>,
}

/// Serves requests until the client leaves.
pub(super) fn serve<S: Read + Write>(
    stream: &mut S,
    agreed: &Agreed,
    shared: &Shared,
) -> io::Result<()> {
    let mut connection = Connection { stream, agreed, shared, buffer: Vec::new() };
    loop {
        let request = match Request::read(connection.stream) {
            // A client may leave without a word.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            other => other?,
        };
        match request.command {
            command::READ => connection.read(&request)?,
            command::BLOCK_STATUS => connection.block_status(&request)?,
            command::DISC => return Ok(()),
            command::WRITE => {
                connection.skip(request.length)?;
                connection.refuse(&request, EPERM, "the export is read-only")?;
            }
            command::TRIM | command::WRITE_ZEROES => {
                connection.refuse(&request, EPERM, "the export is read-only")?;
            }
            _ => connection.refuse(&request, EINVAL, "the export has no such command")?,
        }
        connection.stream.flush()?;
    }
}

struct Connection<'a, S> {
    stream: &'a mut S,
    agreed: &'a Agreed,
    shared: &'a Shared,
    buffer: Vec<u8>,
}

impl<S: Read + Write> Connection<'_, S> {
    fn refuse(&mut self, request: &Request, error: u32, why: &str) -> io::Result<()> {
        if self.agreed.structured {
            let (head, why) = error_payload(error, why);
            write_chunk(self.stream, true, chunk::ERROR, request.cookie, &head, why)
        } else {
            write_simple(self.stream, error, request.cookie)
        }
    }

    /// Passes over what a client wants to write.
    fn skip(&mut self, length: u32) -> io::Result<()> {
        if length > self.shared.max_request {
            return Err(nonsense("a write of absurd length"));
        }
        let skipped = io::copy(&mut self.stream.take(u64::from(length)), &mut io::sink())?;
        if skipped < u64::from(length) { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    /// The range of a request, if it lies within the export.
    fn range(&self, request: &Request) -> Option<ByteRange> {
        let end = request.offset.checked_add(u64::from(request.length))?;
        let range = ByteRange { offset: request.offset, length: u64::from(request.length) };
        (end <= self.agreed.export.size()).then_some(range)
    }

    fn read(&mut self, request: &Request) -> io::Result<()> {
        if request.length > self.shared.max_request {
            return self.refuse(request, EOVERFLOW, "more than a request may ask for");
        }
        let Some(range) = self.range(request) else {
            return self.refuse(request, EINVAL, "beyond the end of the export");
        };
        if self.agreed.structured && request.flags & FLAG_DF == 0 {
            return self.read_chunks(request, range);
        }
        let shared = self.shared;
        let _one_at_a_time = (request.length > PIECE)
            .then(|| shared.large.lock().unwrap_or_else(PoisonError::into_inner));
        if let Err(error) = self.fill(range) {
            self.read_failed(request, request.offset, &error)?;
        } else if self.agreed.structured {
            let head = request.offset.to_be_bytes();
            let kind = if range.length > 0 { chunk::OFFSET_DATA } else { chunk::NONE };
            let head = if range.length > 0 { &head[..] } else { &[] };
            write_chunk(self.stream, true, kind, request.cookie, head, &self.buffer)?;
        } else {
            write_simple(self.stream, 0, request.cookie)?;
            self.stream.write_all(&self.buffer)?;
        }
        if request.length > PIECE {
            self.buffer = Vec::new();
        }
        Ok(())
    }

    fn fill(&mut self, range: ByteRange) -> io::Result<()> {
        self.buffer.resize(usize::try_from(range.length).map_err(io::Error::other)?, 0);
        self.agreed.export.read_at(range.offset, &mut self.buffer)
    }

    fn read_failed(&mut self, request: &Request, at: u64, error: &io::Error) -> io::Result<()> {
        tracing::warn!(%error, at, length = request.length, "an NBD client's read failed");
        if !self.agreed.structured {
            return write_simple(self.stream, EIO, request.cookie);
        }
        let text = error.to_string();
        let (mut head, why) = error_payload(EIO, &text);
        head.extend_from_slice(why);
        write_chunk(
            self.stream,
            true,
            chunk::ERROR_OFFSET,
            request.cookie,
            &head,
            &at.to_be_bytes(),
        )
    }

    /// Data and holes in turn. After an error the rest is not sent.
    fn read_chunks(&mut self, request: &Request, range: ByteRange) -> io::Result<()> {
        let mut at = range.offset;
        while at < range.end() {
            let rest = ByteRange { offset: at, length: range.end() - at };
            let extent = match self.agreed.export.extents(rest, 1) {
                Ok(extents) => match extents.first() {
                    Some(extent) if extent.range.length > 0 => *extent,
                    _ => return Err(io::Error::other("an export without an end of its map")),
                },
                Err(error) => return self.read_failed(request, at, &error),
            };
            if extent.zero {
                // No longer than the request, whose length has 32 bits.
                let length = u32::try_from(extent.range.length).map_err(io::Error::other)?;
                let head = at.to_be_bytes();
                write_chunk(
                    self.stream,
                    false,
                    chunk::OFFSET_HOLE,
                    request.cookie,
                    &head,
                    &length.to_be_bytes(),
                )?;
                at = extent.range.end();
                continue;
            }
            let length = extent.range.length.min(u64::from(PIECE));
            let piece = ByteRange { offset: at, length };
            if let Err(error) = self.fill(piece) {
                return self.read_failed(request, at, &error);
            }
            let head = at.to_be_bytes();
            write_chunk(
                self.stream,
                false,
                chunk::OFFSET_DATA,
                request.cookie,
                &head,
                &self.buffer,
            )?;
            at = piece.end();
        }
        write_chunk(self.stream, true, chunk::NONE, request.cookie, &[], &[])
    }

    fn block_status(&mut self, request: &Request) -> io::Result<()> {
        if !self.agreed.allocation {
            return self.refuse(request, EINVAL, "base:allocation was not agreed upon");
        }
        let Some(range) = self.range(request).filter(|range| range.length > 0) else {
            return self.refuse(request, EINVAL, "beyond the end of the export, or empty");
        };
        let most = if request.flags & FLAG_REQ_ONE == 0 { MAX_EXTENTS } else { 1 };
        let extents = match self.agreed.export.extents(range, most) {
            Ok(extents) => extents,
            Err(error) => return self.read_failed(request, request.offset, &error),
        };
        let mut body = Vec::with_capacity(extents.len() * 8);
        for extent in extents {
            let length = u32::try_from(extent.range.length).map_err(io::Error::other)?;
            body.extend_from_slice(&length.to_be_bytes());
            let state = if extent.zero { STATE_HOLE_ZERO } else { 0 };
            body.extend_from_slice(&state.to_be_bytes());
        }
        let head = ALLOCATION_ID.to_be_bytes();
        write_chunk(self.stream, true, chunk::BLOCK_STATUS, request.cookie, &head, &body)
    }
}

/// The beginning of an error chunk's payload, and its message.
fn error_payload(error: u32, why: &str) -> (Vec<u8>, &[u8]) {
    // A message has 4096 bytes at most; some clients show less.
    let why = &why.as_bytes()[..why.floor_char_boundary(1024)];
    let mut head = error.to_be_bytes().to_vec();
    // No longer than 1024.
    head.extend_from_slice(&u16::try_from(why.len()).unwrap_or(0).to_be_bytes());
    (head, why)
}
