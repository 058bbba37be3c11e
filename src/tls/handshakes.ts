/**
 * TLS over accepted sockets, by node:tls. A client that has asked for it is handed in with its socket, and comes back
 * with the one that is read and written from then on, or not at all.
 *
 * Node has no documented way to say for which socket a TLS server's event is, but it can be told of sockets that were
 * accepted elsewhere. So each server of `node:tls` has one client at a time, and is used again for the next one.
 *
 * Invariants:
 * - Who does not show a certificate of the right authority, or have a key, never comes back.
 * - Nothing is resumed and nothing negotiated anew: a session has the peer that its handshake proved.
 * - There are as many servers as there were handshakes at once, and those have a limit.
 */

import { constants } from 'node:crypto';
import type { Socket } from 'node:net';
import tls from 'node:tls';
import { assert } from '../base/errors.ts';
import { CIPHERS, CIPHERS_OF_SHARED_KEYS } from './ciphers.ts';
import type { TlsCredentials } from './credentials.ts';

/** Whoever hands in a socket closes it when its time is over: Node's own time for that is put off as far as it goes. */
const NO_TIMEOUT_MS = 2 ** 31 - 1;

/** A connection that waits for TLS. One of its methods is called, once. */
export interface TlsClient {
  /** `peerName` is the name that the client has proved to have, undefined if it was not asked. */
  encrypted(socket: tls.TLSSocket, peerName: string | undefined): void;
  /** The socket is gone, or going. `reason` is one of a few, undefined if the client just went. */
  tlsFailed(reason: string | undefined, error: Error): void;
}

export class TlsHandshakes {
  readonly #credentials: TlsCredentials;
  readonly #free: OneAtATime[] = [];

  constructor(credentials: TlsCredentials) {
    this.#credentials = credentials;
    // At once: credentials that OpenSSL does not take are for whoever starts the server, not for its first client.
    this.#free.push(this.#another());
  }

  #another(): OneAtATime {
    return new OneAtATime(this.#credentials, (freed) => this.#free.push(freed));
  }

  /** Requires: nobody reads `socket` any more, and all it gave was taken. */
  begin(socket: Socket, client: TlsClient): void {
    const server = this.#free.pop() ?? this.#another();
    server.begin(socket, client);
  }
}

class OneAtATime {
  readonly #server: tls.Server;
  readonly #freed: (server: OneAtATime) => void;
  readonly #told = new WeakSet<tls.TLSSocket>();
  #client: TlsClient | undefined;
  /** Whose key the client says it has: the handshake fails if it has not. */
  #keyName: string | undefined;

  constructor(credentials: TlsCredentials, freed: (server: OneAtATime) => void) {
    this.#freed = freed;
    const isNamed = credentials.kind === 'shared keys' || credentials.clientAuthority !== undefined;
    this.#server = tls.createServer(this.#optionsOf(credentials));
    this.#server.on('secureConnection', (socket) => {
      if (!this.#isNews(socket)) return;
      const peerName = isNamed ? (this.#keyName ?? commonName(socket)) : undefined;
      this.#leave().encrypted(socket, peerName);
    });
    this.#server.on('tlsClientError', (error, socket) => {
      // So that it has no more to tell, whatever still comes.
      socket.destroy();
      if (!this.#isNews(socket)) return;
      const isUnproved = Boolean(socket.authorizationError);
      const isGone = (error as NodeJS.ErrnoException).code === 'ECONNRESET';
      const reason = isUnproved
        ? 'the certificate of a client was not accepted'
        : isGone
          ? undefined
          : 'a TLS handshake failed';
      this.#leave().tlsFailed(reason, isUnproved ? new Error(String(socket.authorizationError)) : error);
    });
  }

  begin(socket: Socket, client: TlsClient): void {
    assert(this.#client === undefined, 'one handshake at a time');
    this.#client = client;
    this.#keyName = undefined;
    this.#server.emit('connection', socket);
  }

  /** Node tells of each handshake once. If it did so twice, the second time would be taken for the next client's. */
  #isNews(socket: tls.TLSSocket): boolean {
    if (this.#told.has(socket)) return false;
    this.#told.add(socket);
    return true;
  }

  /** The next client may come. */
  #leave(): TlsClient {
    const client = this.#client;
    assert(client !== undefined, 'what is told is of a client');
    this.#client = undefined;
    this.#freed(this);
    return client;
  }

  #optionsOf(credentials: TlsCredentials): tls.TlsOptions {
    const options: tls.TlsOptions = {
      minVersion: 'TLSv1.2',
      handshakeTimeout: NO_TIMEOUT_MS,
      honorCipherOrder: true,
      secureOptions: constants.SSL_OP_NO_TICKET | constants.SSL_OP_NO_RENEGOTIATION,
    };
    if (credentials.kind === 'shared keys') {
      const { keys } = credentials;
      const pskCallback = (_: unknown, name: string): Buffer | null => {
        const key = keys.get(name);
        if (key !== undefined) this.#keyName = name;
        return key ?? null;
      };
      return { ...options, ciphers: CIPHERS_OF_SHARED_KEYS, dhparam: 'auto', pskCallback } as tls.TlsOptions;
    }
    const { key, certificate, clientAuthority, revoked } = credentials;
    const own: tls.TlsOptions = { ...options, ciphers: CIPHERS, key, cert: certificate };
    if (clientAuthority === undefined) return own;
    const crl = revoked === undefined ? {} : { crl: [...revoked] };
    return { ...own, ...crl, ca: clientAuthority, requestCert: true, rejectUnauthorized: true };
  }
}

/** The common name in the client's certificate, which was verified; undefined unless it has just one. */
function commonName(socket: tls.TLSSocket): string | undefined {
  const name: unknown = socket.getPeerCertificate().subject?.CN;
  return typeof name === 'string' && name !== '' ? name : undefined;
}
