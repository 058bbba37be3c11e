/**
 * A socket that reads into slabs. Node offers this (`onread`) to sockets that connect, not to those that a server
 * accepts: so the accepted socket's handle is given to a new socket. That is not documented; where it does not work
 * as it does today, the accepted socket is used as it is, and Node allocates.
 *
 * Requires: the server accepts with `pauseOnConnect`, so that nothing has been read yet.
 */

import net from 'node:net';
import type { Slab, SlabReader } from './receive-slabs.ts';

/** Takes what a client sent; `slab` is where it lies, undefined if the memory is nobody's but the chunk's. */
export type Receive = (chunk: Buffer, slab: Slab | undefined) => void;

export function readIntoSlabs(accepted: net.Socket, reader: SlabReader, receive: Receive): net.Socket {
  const owner = accepted as unknown as { _handle?: object | null };
  const handle = owner._handle;
  if (handle === undefined || handle === null || !('useUserBuffer' in handle)) {
    accepted.on('data', (chunk: Buffer) => receive(chunk, undefined));
    accepted.resume();
    return accepted;
  }
  owner._handle = null;
  const options = {
    handle,
    allowHalfOpen: true,
    onread: {
      buffer: () => reader.room(),
      callback: (bytes: number) => {
        receive(reader.taken(bytes), reader.slab);
        return true;
      },
    },
  };
  const socket = new net.Socket(options as net.SocketConstructorOpts);
  // The server counts the one that it accepted.
  socket.once('close', () => accepted.destroy());
  return socket;
}
