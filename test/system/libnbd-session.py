"""A session of libnbd on a disk of 16 MiB that was never written: each step says what must be so, and ends the script where it is not."""

import errno
import sys

import nbd

MIB = 1024 * 1024
DEPTH = "qemu:allocation-depth"


def connect(uri):
    handle = nbd.NBD()
    handle.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
    handle.add_meta_context(DEPTH)
    handle.connect_uri(uri)
    return handle


def status(handle, context, offset, length):
    """What a context says of a range, as (bytes, status)."""
    found = []

    def extents(name, _offset, entries, _error):
        if name == context:
            found.extend(zip(entries[0::2], entries[1::2]))
        return 0

    handle.block_status(length, offset, extents)
    return found


def allocation(handle, offset, length):
    return status(handle, nbd.CONTEXT_BASE_ALLOCATION, offset, length)


def chunks(handle, offset, length, flags=0):
    """Chunks of a reply to a read, as (offset, bytes, is data), and all that was read."""
    found = []

    def chunk(part, at, kind, _error):
        found.append((at, len(part), kind == nbd.READ_DATA))
        return 0

    data = handle.pread_structured(length, offset, chunk, flags)
    return sorted(found), bytes(data)


def refused(wanted, call, *args):
    try:
        call(*args)
    except nbd.Error as error:
        assert error.errnum == wanted, error
    else:
        raise AssertionError("not refused")


first = connect(sys.argv[1])
second = connect(sys.argv[1])
assert first.get_structured_replies_negotiated()
assert first.get_size() == 16 * MIB
for can in ("multi_conn", "trim", "zero", "fast_zero", "cache", "df", "fua", "flush"):
    assert getattr(first, "can_" + can)(), can

# Structured replies: data where it was written, holes as such, and one piece where that is asked for.
first.pwrite(b"\x07" * 8192, MIB, nbd.CMD_FLAG_FUA)
parts, read = chunks(first, MIB - 4096, 16384)
assert parts == [(MIB - 4096, 4096, False), (MIB, 8192, True), (MIB + 8192, 4096, False)], parts
assert read == b"\0" * 4096 + b"\x07" * 8192 + b"\0" * 4096
parts, again = chunks(first, MIB - 4096, 16384, nbd.CMD_FLAG_DF)
assert parts == [(MIB - 4096, 16384, True)] and again == read, parts

# Block status of two contexts, and of one extent only.
assert allocation(first, MIB - 4096, 16384) == [(4096, 3), (8192, 0), (4096, 3)]
assert status(first, DEPTH, MIB - 4096, 16384) == [(4096, 0), (8192, 1), (4096, 0)]

# Another connection sees what was answered, and its flush is for both.
second.pwrite(b"\x09" * 4096, MIB + 4096)
second.flush()
assert first.pread(8192, MIB) == b"\x07" * 4096 + b"\x09" * 4096

# Zeroes and trims, at odd places too.
first.zero(100, MIB + 50)
assert second.pread(200, MIB) == b"\x07" * 50 + b"\0" * 100 + b"\x07" * 50
first.zero(4096, MIB + 4096, nbd.CMD_FLAG_FAST_ZERO | nbd.CMD_FLAG_NO_HOLE)
refused(errno.ENOTSUP, first.zero, 100, MIB, nbd.CMD_FLAG_FAST_ZERO)
assert second.pread(4096, MIB + 4096) == b"\0" * 4096
first.trim(4096, MIB, nbd.CMD_FLAG_FUA)
assert allocation(second, MIB, 8192) == [(8192, 3)]
assert second.pread(8192, MIB) == b"\0" * 8192
first.trim(16 * MIB, 0)
first.cache(16 * MIB, 0)

# What cannot be is refused, and the connection goes on.
first.set_strict_mode(0)
refused(errno.ENOSPC, first.pwrite, b"x", 16 * MIB)
refused(errno.EINVAL, first.pread, 1, 16 * MIB)
refused(errno.EINVAL, first.cache, 1, 16 * MIB)

# Many requests at once over both connections, read back over the other one.
pending = []
for i in range(256):
    handle = (first, second)[i % 2]
    pending.append((handle, handle.aio_pwrite(nbd.Buffer.from_bytearray(bytearray([i % 251] * 8192)), i * 16384)))
while pending:
    for handle in (first, second):
        if handle.aio_in_flight() > 0:
            handle.poll(1000)
    pending = [(handle, cookie) for handle, cookie in pending if not handle.aio_command_completed(cookie)]
for i in range(256):
    handle = (second, first)[i % 2]
    assert handle.pread(16384, i * 16384) == bytes([i % 251]) * 8192 + b"\0" * 8192, i

first.flush()
first.shutdown()
second.shutdown()
print("all of it holds")
