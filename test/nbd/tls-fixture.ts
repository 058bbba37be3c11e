/** Servers with TLS, and what clients need to get in. */

import { randomBytes } from 'node:crypto';
import net from 'node:net';
import type tls from 'node:tls';
import type { NbdServerOptions, TlsOffer } from '../../src/nbd/server.ts';
import { type Fixture, serve } from './fixture.ts';

export const KEYS = new Map([
  ['alice', randomBytes(32)],
  ['bob', randomBytes(32)],
]);

export const byKey = (mode: TlsOffer['mode']): TlsOffer => ({
  mode,
  credentials: { kind: 'shared keys', keys: KEYS },
});

/** A server of shared keys. */
export function serveTls(
  mode: TlsOffer['mode'] = 'require',
  options: Partial<NbdServerOptions> = {},
): Promise<Fixture> {
  return serve({ ...options, tls: byKey(mode) });
}

/** A client that says it is `name`, with `key`; a client of OpenSSL names no cipher with a shared key by itself. */
export function withKey(
  name = 'alice',
  key = KEYS.get(name)!,
  more: tls.ConnectionOptions = {},
): tls.ConnectionOptions {
  return {
    ciphers: 'TLS_AES_128_GCM_SHA256:ECDHE-PSK-CHACHA20-POLY1305:DHE-PSK-AES256-GCM-SHA384',
    pskCallback: () => ({ psk: key, identity: name }),
    // There is no certificate whose name could be held against the host's.
    checkServerIdentity: () => undefined,
    ...more,
  };
}

/** Why clients were refused, as the server logged it. */
export function complaintsOf({ logged }: Fixture): unknown[] {
  return logged.filter(({ msg }) => msg === 'a client was refused').map(({ reason }) => reason);
}

/** Whom the server takes its clients for, in the order in which they got an export. */
export function clientsOf({ logged }: Fixture): unknown[] {
  return logged.filter(({ msg }) => msg === 'transmission begins').map(({ client }) => client);
}

/** Somebody on the way: a socket that leads to the server's, who listens in, and may change what the client says. */
export class Wire {
  readonly path: string;
  /** What the server has said through it. */
  fromServer = Buffer.alloc(0);
  /** True: the last byte of whatever the client sends arrives as another one. */
  tampers = false;
  readonly #listener: net.Server;

  private constructor(serverPath: string) {
    this.path = `${serverPath}.wire`;
    this.#listener = net.createServer((near) => {
      const far = net.connect(serverPath);
      for (const socket of [near, far]) socket.on('error', () => undefined);
      near.on('data', (part: Buffer) => {
        if (this.tampers) part[part.length - 1]! ^= 1;
        far.write(part);
      });
      near.on('end', () => far.end());
      far.on('data', (part: Buffer) => {
        this.fromServer = Buffer.concat([this.fromServer, part]);
      });
      far.pipe(near);
    });
  }

  static async to(serverPath: string): Promise<Wire> {
    const wire = new Wire(serverPath);
    await new Promise<void>((resolve) => wire.#listener.listen(wire.path, resolve));
    return wire;
  }

  async close(): Promise<void> {
    await new Promise<void>((resolve) => this.#listener.close(() => resolve()));
  }
}
