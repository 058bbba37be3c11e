/**
 * Listens on a Unix socket: file mode 0600 from its first moment, a dead socket's file replaced, a live one refused. The file
 * stays until it is removed here, however often the server is closed and listens again.
 */

import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { fromSystemError, StoreError } from './errors.ts';
import { LISTEN_BACKLOG, listenOnPath } from './libc.ts';
import { openSocketPath, type SocketPath } from './socket-path.ts';

/** Leaves 0600 of the mode a socket file is made with. */
const OWNER_ONLY_UMASK = 0o177;

/** The file of a socket that somebody listens on. */
export interface SocketFile {
  /** What another process of this machine can connect to. */
  readonly publicPath: string;
  /** To be called when the server has been closed, and before anything else runs: then the file may be another one's. */
  remove(): void;
}

/**
 * Makes `server` listen on `file`.
 * @throws IN_USE (someone listens there, or it is not a socket), NOT_FOUND (no such directory), INVALID_ARGUMENT, IO
 */
export async function listenOnFile(server: net.Server, file: string): Promise<SocketFile> {
  const socketPath = openSocketPath(file);
  try {
    await removeDeadSocket(socketPath, file);
    await listenWithMode(server, socketPath.path);
    const remove = (): void => {
      try {
        fs.unlinkSync(socketPath.path);
      } catch {
        // It is gone, or its file system takes no changes: whoever listens there next finds that it is dead.
      } finally {
        socketPath.close();
      }
    };
    return { publicPath: socketPath.publicPath, remove };
  } catch (error) {
    socketPath.close();
    if (hasErrno(error, 'EADDRINUSE')) throw new StoreError('IN_USE', `${file} is in use`, error);
    throw fromSystemError(error, `listening on ${file}`);
  }
}

async function removeDeadSocket(socketPath: SocketPath, file: string): Promise<void> {
  let stats: fs.Stats;
  try {
    stats = fs.lstatSync(socketPath.path);
  } catch (error) {
    if (!hasErrno(error, 'ENOENT')) throw error;
    // libuv would call a missing directory EACCES.
    fs.statSync(path.dirname(socketPath.path));
    return;
  }
  if (!stats.isSocket()) {
    throw new StoreError('IN_USE', `${file} is in the way: it is not a socket; remove it`);
  }
  if (await isAlive(socketPath.path))
    throw new StoreError('IN_USE', `another process listens on ${file}; stop it, or choose another socket`);
  fs.rmSync(socketPath.path, { force: true });
}

/** True unless the kernel says that nobody listens: a server too busy to accept is alive. */
function isAlive(file: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const probe = net.connect(file);
    probe.on('error', (error) => {
      if (hasErrno(error, 'ECONNREFUSED') || hasErrno(error, 'ENOENT')) resolve(false);
      else if (hasErrno(error, 'EAGAIN')) resolve(true);
      else reject(error);
    });
    probe.on('connect', () => {
      probe.destroy();
      resolve(true);
    });
  });
}

function listenWithMode(server: net.Server, file: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.once('listening', () => {
      server.off('error', reject);
      resolve();
    });
    // The file is made before these return: no other code runs under this umask, and nobody can connect before a chmod would
    // have come.
    const umask = process.umask(OWNER_ONLY_UMASK);
    try {
      const fd = listenOnPath(file);
      if (fd === undefined) server.listen(file);
      else server.listen({ fd }, LISTEN_BACKLOG);
    } finally {
      process.umask(umask);
    }
  });
}

function hasErrno(error: unknown, code: string): boolean {
  return (error as NodeJS.ErrnoException | undefined)?.code === code;
}
