/**
 * TLS over a connection to another server: what this end proves itself with, and whom it believes.
 *
 *     DIRECTORY/ca-cert.pem        who signs the server's certificate
 *     DIRECTORY/client-cert.pem    this end's certificate
 *     DIRECTORY/client-key.pem     its key
 *     FILE of shared keys          NAME:HEXKEY, one a line; the name says which
 *
 * Invariant: bytes go to no server that has not shown a certificate of that authority for its name, or does not have the key.
 */

import tls from 'node:tls';
import path from 'node:path';
import type { Logger } from 'pino';
import type { TcpAddress } from '../base/address.ts';
import { StoreError } from '../base/errors.ts';
import { CIPHERS, CIPHERS_OF_SHARED_KEYS } from './ciphers.ts';
import { loadPair, loadSharedKeys, readAuthority } from './credentials.ts';

export type ClientCredentials =
  | {
      readonly kind: 'certificates';
      readonly authority: Buffer;
      readonly certificate: Buffer;
      readonly key: Buffer;
    }
  | { readonly kind: 'shared key'; readonly name: string; readonly key: Buffer };

/** @throws NOT_FOUND, IO (a file cannot be read), INVALID_ARGUMENT (files are not what they should be, or do not fit) */
export async function loadClientCertificates(directory: string, logger: Logger): Promise<ClientCredentials> {
  const authority = await readAuthority(path.join(directory, 'ca-cert.pem'));
  const { certificate, key } = await loadPair(directory, 'client', logger);
  return { kind: 'certificates', authority, certificate, key };
}

/** The key of `name`. @throws NOT_FOUND, IO, INVALID_ARGUMENT */
export async function loadClientKey(file: string, name: string, logger: Logger): Promise<ClientCredentials> {
  const key = (await loadSharedKeys(file, logger)).keys.get(name);
  if (key !== undefined) return { kind: 'shared key', name, key };
  throw new StoreError('INVALID_ARGUMENT', `${file} has no key of ${name}: name one that it has`);
}

/** A connection whose `secureConnect` says that the server has proved itself. */
export function connectTls({ host, port }: TcpAddress, credentials: ClientCredentials): tls.TLSSocket {
  const common: tls.ConnectionOptions = { host, port, minVersion: 'TLSv1.2', rejectUnauthorized: true };
  if (credentials.kind === 'certificates') {
    const { authority: ca, certificate: cert, key } = credentials;
    return tls.connect({ ...common, ca, cert, key, ciphers: CIPHERS });
  }
  const { name: identity, key: psk } = credentials;
  return tls.connect({
    ...common,
    ciphers: CIPHERS_OF_SHARED_KEYS,
    pskCallback: () => ({ psk, identity }),
    // There is no certificate: who has the key is the one.
    checkServerIdentity: () => undefined,
  } as tls.ConnectionOptions);
}
