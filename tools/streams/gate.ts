/**
 * A gate between two ends that replicate: a connection is let through when `ready` says so, and cut when either side is gone.
 * Until then nothing that was sent over it is read.
 */

import net from 'node:net';
import type { Cleanup } from '../../test/support/programs.ts';

const LOOPBACK = '127.0.0.1';

/**
 * Opens one to `port` of this machine; answers its own port.
 *
 * @param ready resolves for each connection when it may pass, given whether it is still there
 */
export async function openGate(
  port: number,
  ready: (isThere: () => boolean) => Promise<void>,
  cleanup: Cleanup,
): Promise<number> {
  const sockets = new Set<net.Socket>();
  const server = net.createServer({ pauseOnConnect: true }, (socket) => {
    track(sockets, socket);
    void ready(() => !socket.destroyed).then(() => {
      if (socket.destroyed) return;
      const onward = net.connect(port, LOOPBACK);
      track(sockets, onward);
      for (const [one, other] of [
        [socket, onward],
        [onward, socket],
      ] as const) {
        one.pipe(other);
        one.on('close', () => other.destroy());
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(0, LOOPBACK, resolve));
  cleanup.add(async () => {
    const closed = new Promise((resolve) => server.close(resolve));
    for (const socket of sockets) socket.destroy();
    await closed;
  });
  return (server.address() as net.AddressInfo).port;
}

function track(sockets: Set<net.Socket>, socket: net.Socket): void {
  sockets.add(socket);
  // An end that is killed resets what it had open.
  socket.on('error', () => socket.destroy());
  socket.on('close', () => sockets.delete(socket));
}
