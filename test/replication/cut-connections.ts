/** A wire between two sites that breaks after so many bytes, in either direction. */

import net from 'node:net';

export class BreakingWire {
  readonly #server: net.Server;
  readonly #sockets = new Set<net.Socket>();
  /** Bytes that may still pass; a connection that comes to its end breaks. */
  bytesLeft = Infinity;
  /** All that have passed. */
  passedBytes = 0;

  private constructor(to: () => number) {
    this.#server = net.createServer((near) => {
      const far = net.connect(to(), '127.0.0.1');
      const both = [near, far];
      const end = (): void => both.forEach((each) => each.destroy());
      for (const [one, other] of [
        [near, far],
        [far, near],
      ] as const) {
        this.#sockets.add(one);
        one.on('error', end);
        one.on('close', () => {
          this.#sockets.delete(one);
          end();
        });
        one.on('data', (bytes: Buffer) => {
          const part = bytes.subarray(0, this.bytesLeft);
          this.bytesLeft -= part.length;
          this.passedBytes += part.length;
          if (part.length > 0) other.write(part);
          if (this.bytesLeft === 0) end();
        });
        one.on('end', () => other.end());
      }
    });
  }

  /** One that leads to the port that is answered when a connection comes. */
  static async to(port: () => number): Promise<BreakingWire> {
    const wire = new BreakingWire(port);
    await new Promise<void>((resolve) => wire.#server.listen(0, '127.0.0.1', resolve));
    return wire;
  }

  get address(): string {
    return `127.0.0.1:${(this.#server.address() as net.AddressInfo).port}`;
  }

  close(): void {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
  }
}
