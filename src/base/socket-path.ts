/**
 * Paths of Unix sockets, of any length.
 *
 * The kernel takes 107 bytes, and Node cuts a longer path off without a word: it would bind some other name. A longer
 * one is reached through its directory, as `/proc/self/fd/<n>/<name>`, for as long as that descriptor is open.
 */

import fs from 'node:fs';
import path from 'node:path';
import { fromSystemError, StoreError } from './errors.ts';

const SOCKET_PATH_BYTES_MAX = 107;

export interface SocketPath {
  /** What this process gives to `listen` or `connect`. */
  readonly path: string;
  /** What another process of this machine can connect to, while this one holds the path open. */
  readonly publicPath: string;
  /** To be called when nothing listens there any more, and after `connect`. */
  close(): void;
}

/** A usable path for the socket file `file`. @throws NOT_FOUND (its directory), INVALID_ARGUMENT, IO */
export function openSocketPath(file: string): SocketPath {
  const full = path.resolve(file);
  if (Buffer.byteLength(full) <= SOCKET_PATH_BYTES_MAX) {
    return { path: full, publicPath: full, close: () => undefined };
  }
  if (process.platform !== 'linux') {
    throw new StoreError(
      'INVALID_ARGUMENT',
      `the path of a socket is longer than the system allows: ${file}`,
    );
  }
  let directory: number;
  try {
    directory = fs.openSync(path.dirname(full), fs.constants.O_RDONLY | fs.constants.O_DIRECTORY);
  } catch (error) {
    throw fromSystemError(error, 'opening the directory of a socket');
  }
  const name = path.basename(full);
  const publicPath = `/proc/${process.pid}/fd/${directory}/${name}`;
  if (Buffer.byteLength(publicPath) > SOCKET_PATH_BYTES_MAX) {
    fs.closeSync(directory);
    throw new StoreError(
      'INVALID_ARGUMENT',
      `the name of a socket is longer than the system allows: ${name}`,
    );
  }
  return { path: `/proc/self/fd/${directory}/${name}`, publicPath, close: () => fs.closeSync(directory) };
}
