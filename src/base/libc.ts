/**
 * The system calls that Node does not offer, through koffi; each has a fall-back where koffi does not load.
 *
 * - `preadv2` with RWF_NOWAIT reads what is in the page cache, or says EAGAIN: about a microsecond on the event loop
 *   in place of a trip through the thread pool, and it never waits for a disk.
 * - `fallocate` gives a new segment its space at once, so that appends need no allocation.
 * - `fadvise` gives back the page cache of what is dead, so that its memory serves the next segment.
 * - `fcntl` asks who has a file locked, without locking it.
 * - `setsockopt` says how often a silent TCP peer is asked whether it is there.
 * - `getsockopt` and `getsockname` say what a descriptor is that this process was started with.
 * - `fcntl` also duplicates a descriptor, and `socket`, `bind` and `listen` make one of a Unix socket whose name stays when a
 *   server of Node is closed: both for `accept-pace.ts`.
 *
 * A wrong prototype here would crash the process: nothing else in the house calls into C.
 */

import fs from 'node:fs';
import { createRequire } from 'node:module';
import os from 'node:os';
import { getSystemErrorName } from 'node:util';
import { assert } from './errors.ts';

const RWF_NOWAIT = 8;
const FADV_DONTNEED = 4;
const F_SETFD = 2;
const F_DUPFD_CLOEXEC = 1030;
const FD_CLOEXEC = 1;
const F_OFD_GETLK = 36;
const F_WRLCK = 1;
const F_UNLCK = 2;
/** struct flock: type i16, whence i16, start i64 at 8, length i64 (0: to the end), pid i32. */
const FLOCK_BYTES = 32;
const SOL_SOCKET = 1;
const SO_TYPE = 3;
const SO_ACCEPTCONN = 30;
const SOCK_STREAM = 1;
const SOCK_CLOEXEC = 0o2000000;
/** Connections that wait to be accepted; the system may take fewer. */
export const LISTEN_BACKLOG = 4095;
const [AF_UNIX, AF_INET, AF_INET6] = [1, 2, 10];
/** struct sockaddr_un: family u16, path. */
const SOCKADDR_BYTES = 2 + 108;
const IPPROTO_TCP = 6;
const TCP_KEEPINTVL = 5;
const TCP_KEEPCNT = 6;
const TWO_32 = 2 ** 32;
const { ENOSPC, EDQUOT, EFBIG } = os.constants.errno;

type NativeCall = ((...args: unknown[]) => number) & {
  async: (...args: unknown[]) => void;
};

interface Koffi {
  load(name: string): { func(prototype: string): NativeCall };
  address(value: unknown): bigint;
  errno(): number;
}

interface Libc {
  readonly koffi: Koffi;
  readonly preadv2: NativeCall;
  readonly fallocate: NativeCall;
  readonly fadvise: NativeCall;
  readonly fcntl: NativeCall;
  readonly setsockopt: NativeCall;
  readonly getsockopt: NativeCall;
  readonly getsockname: NativeCall;
  readonly socket: NativeCall;
  readonly bind: NativeCall;
  readonly listen: NativeCall;
}

function loadLibc(): Libc | undefined {
  if (process.platform !== 'linux' || os.endianness() !== 'LE') return undefined;
  try {
    const koffi = createRequire(import.meta.url)('koffi') as Koffi;
    const libc = koffi.load('libc.so.6');
    return {
      koffi,
      preadv2: libc.func('int64_t preadv2(int fd, void *iov, int count, int64_t offset, int flags)'),
      fallocate: libc.func('int posix_fallocate(int fd, int64_t offset, int64_t bytes)'),
      fadvise: libc.func('int posix_fadvise(int fd, int64_t offset, int64_t bytes, int advice)'),
      fcntl: libc.func('int fcntl(int fd, int command, ...)'),
      setsockopt: libc.func('int setsockopt(int fd, int level, int name, void *value, uint32_t bytes)'),
      getsockopt: libc.func('int getsockopt(int fd, int level, int name, void *value, void *bytes)'),
      getsockname: libc.func('int getsockname(int fd, void *address, void *bytes)'),
      socket: libc.func('int socket(int family, int type, int protocol)'),
      bind: libc.func('int bind(int fd, void *address, uint32_t bytes)'),
      listen: libc.func('int listen(int fd, int backlog)'),
    };
  } catch {
    return undefined; // no prebuilt library for this machine: asynchronous reads serve everything
  }
}

const libc = loadLibc();

/** Memory addresses by ArrayBuffer: its storage never moves, and asking costs a BigInt. */
const addresses = new WeakMap<ArrayBufferLike, number>();
const iovec = Buffer.alloc(16);
const iovecWords = new Uint32Array(iovec.buffer, iovec.byteOffset, 4);

function addressOf(storage: ArrayBufferLike): number {
  let address = addresses.get(storage);
  if (address === undefined) {
    address = Number(libc!.koffi.address(new Uint8Array(storage)));
    addresses.set(storage, address);
  }
  return address;
}

/** True if cached reads are possible on this machine. */
export const hasCachedReads = libc !== undefined;

/** Reads from the page cache into `target`; the bytes read, or -1 if the disk would be needed (or koffi is missing). */
export function readCached(
  fd: number,
  target: Buffer,
  start: number,
  length: number,
  position: number,
): number {
  if (libc === undefined) return -1;
  const address = addressOf(target.buffer) + target.byteOffset + start;
  iovecWords[0] = address % TWO_32;
  iovecWords[1] = Math.floor(address / TWO_32);
  iovecWords[2] = length;
  iovecWords[3] = 0;
  const bytes = libc.preadv2(fd, iovec, 1, position, RWF_NOWAIT);
  return bytes < 0 ? -1 : bytes;
}

/** Reserves `bytes` from the start of a file. Answers an errno that means "no space", or 0; other failures cost only speed. */
export function allocateSpace(fd: number, bytes: number): Promise<number> {
  if (libc === undefined) return Promise.resolve(0);
  const { fallocate } = libc;
  return new Promise((resolve, reject) => {
    fallocate.async(fd, 0, bytes, (error: Error | null, errno: number) => {
      if (error) reject(error);
      else resolve(errno === ENOSPC || errno === EDQUOT || errno === EFBIG ? errno : 0);
    });
  });
}

/** Drops the clean pages of a file from the page cache. */
export function dropCachedPages(fd: number, position: number, length: number): Promise<void> {
  if (libc === undefined) return Promise.resolve();
  const { fadvise } = libc;
  return new Promise((resolve, reject) => {
    fadvise.async(fd, position, length, FADV_DONTNEED, (error: Error | null) =>
      error ? reject(error) : resolve(),
    );
  });
}

/** True if another open of this file has a lock on it; undefined if the system does not tell. */
export function isLockedElsewhere(fd: number): boolean | undefined {
  if (libc === undefined) return undefined;
  const flock = Buffer.alloc(FLOCK_BYTES);
  flock.writeInt16LE(F_WRLCK, 0);
  if (libc.fcntl(fd, F_OFD_GETLK, 'void *', flock) !== 0) return undefined;
  return flock.readInt16LE(0) !== F_UNLCK;
}

/**
 * Has a silent TCP peer asked every `seconds`, and given up after `count` questions without an answer. False where that
 * is not possible: the system's own times hold then.
 */
export function setKeepAliveProbes(fd: number, seconds: number, count: number): boolean {
  if (libc === undefined) return false;
  const value = Buffer.alloc(4);
  const set = (name: number, to: number): boolean => {
    value.writeInt32LE(to);
    return libc.setsockopt(fd, IPPROTO_TCP, name, value, 4) === 0;
  };
  return set(TCP_KEEPINTVL, seconds) && set(TCP_KEEPCNT, count);
}

/** What a descriptor is that this process was started with. */
export interface InheritedSocket {
  readonly family: 'unix' | 'tcp';
  /** Empty for TCP, and for a Unix socket that no path leads to. */
  readonly socketPath: string;
}

/** Programs that this one starts do not get `fd`. False where that is not possible. */
export function closeOnExec(fd: number): boolean {
  return libc !== undefined && libc.fcntl(fd, F_SETFD, 'int', FD_CLOEXEC) === 0;
}

/** Another descriptor of what `fd` is, which programs that this one starts do not get. Undefined where there is none. */
export function duplicate(fd: number): number | undefined {
  const duplicated = libc === undefined ? -1 : libc.fcntl(fd, F_DUPFD_CLOEXEC, 'int', 0);
  return duplicated < 0 ? undefined : duplicated;
}

/**
 * The descriptor of a new Unix socket that listens on `path`; undefined where that is not possible.
 * @throws a system error, as Node has them
 */
export function listenOnPath(path: string): number | undefined {
  if (libc === undefined) return undefined;
  const name = Buffer.from(path);
  assert(name.length + 2 < SOCKADDR_BYTES, 'the path of a socket fits into its address');
  const address = Buffer.alloc(SOCKADDR_BYTES);
  address.writeUInt16LE(AF_UNIX, 0);
  name.copy(address, 2);
  const fd = libc.socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) throw systemError('socket', path);
  if (libc.bind(fd, address, 2 + name.length + 1) === 0 && libc.listen(fd, LISTEN_BACKLOG) === 0) return fd;
  const error = systemError('listen', path);
  fs.closeSync(fd);
  if (error.code !== 'EADDRINUSE') fs.rmSync(path, { force: true });
  throw error;
}

function systemError(syscall: string, path: string): NodeJS.ErrnoException {
  const errno = -libc!.koffi.errno();
  const code = getSystemErrorName(errno);
  return Object.assign(new Error(`${code}: ${syscall} ${path}`), { errno, code, syscall, path });
}

/** What listens on `fd`; or why nothing does, as the end of a sentence. */
export function inspectListener(fd: number): InheritedSocket | string {
  if (libc === undefined) return 'cannot be looked at: the package koffi does not load on this machine';
  const value = Buffer.alloc(4);
  const bytes = Buffer.alloc(4);
  const option = (name: number): number | undefined => {
    bytes.writeUInt32LE(value.length);
    return libc.getsockopt(fd, SOL_SOCKET, name, value, bytes) === 0 ? value.readInt32LE(0) : undefined;
  };
  const type = option(SO_TYPE);
  if (type === undefined) return 'is not a socket';
  const address = Buffer.alloc(SOCKADDR_BYTES);
  bytes.writeUInt32LE(address.length);
  if (libc.getsockname(fd, address, bytes) !== 0) return 'is a socket without an address';
  // Now, because the next option has a length too.
  const name = address.subarray(2, bytes.readUInt32LE(0));
  const family = address.readUInt16LE(0);
  if (type !== SOCK_STREAM || ![AF_UNIX, AF_INET, AF_INET6].includes(family))
    return 'is neither a Unix nor a TCP socket for streams';
  if (option(SO_ACCEPTCONN) !== 1) return 'is a socket that does not listen';
  if (family !== AF_UNIX) return { family: 'tcp', socketPath: '' };
  const end = name.indexOf(0);
  return { family: 'unix', socketPath: name.toString('utf8', 0, end < 0 ? name.length : end) };
}
