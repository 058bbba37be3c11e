/**
 * Listens on the file of a Unix socket: 0600 from its first moment, a file that nobody listens on any more replaced,
 * a live one refused, and so is a file of another kind.
 */

import fs from 'node:fs';
import net from 'node:net';
import { fromSystemError, StoreError } from '../base/errors.ts';
import { openSocketPath, type SocketPath } from '../base/socket-path.ts';

/** Leaves 0600 of the mode that a socket file is made with. */
const OWNER_ONLY_UMASK = 0o177;

/** The answer is to be closed when the server is. @throws IN_USE, NOT_FOUND (its directory), INVALID_ARGUMENT, IO */
export async function listenOnSocketFile(server: net.Server, file: string): Promise<SocketPath> {
  const socketPath = openSocketPath(file);
  try {
    await removeDeadSocket(socketPath.path, file);
    await listen(server, socketPath.path);
    return socketPath;
  } catch (error) {
    socketPath.close();
    throw fromSystemError(error, `listening on ${file}`);
  }
}

async function removeDeadSocket(usablePath: string, file: string): Promise<void> {
  const stats = fs.lstatSync(usablePath, { throwIfNoEntry: false });
  if (stats === undefined) return;
  if (!stats.isSocket())
    throw new StoreError('IN_USE', `${file} is in the way: it is not a socket; remove it`);
  if (await isAlive(usablePath)) {
    throw new StoreError('IN_USE', `another process listens on ${file}; stop it, or choose another socket`);
  }
  fs.rmSync(usablePath, { force: true });
}

/** False only if the kernel says that nobody listens: a server that is too busy to accept is alive. */
function isAlive(usablePath: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect(usablePath);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', (error: NodeJS.ErrnoException) => {
      resolve(error.code !== 'ECONNREFUSED' && error.code !== 'ENOENT');
    });
  });
}

function listen(server: net.Server, usablePath: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.once('listening', () => {
      server.off('error', reject);
      resolve();
    });
    // The file is made before `listen` returns, so that no other code runs under this umask; after a chmod instead,
    // somebody might already be connected.
    const umask = process.umask(OWNER_ONLY_UMASK);
    try {
      server.listen(usablePath);
    } finally {
      process.umask(umask);
    }
  });
}
