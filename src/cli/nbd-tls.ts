/**
 * `--tls`, `--tls-certificates`, `--tls-psk` and `--tls-verify-peer` of `serve`, by the names that nbdkit gave them. Where the
 * client may choose to do without, that has to be said: no option means two things.
 */

import path from 'node:path';
import type { Logger } from 'pino';
import { StoreError } from '../base/errors.ts';
import type { TlsOffer } from '../nbd/server.ts';
import { loadCertificates, loadSharedKeys } from '../tls/credentials.ts';
import type { UriSecurity } from './nbd-address.ts';

/** As the command line gave them. */
export interface TlsOptions {
  readonly tls?: string;
  readonly tlsCertificates?: string;
  readonly tlsPsk?: string;
  readonly tlsVerifyPeer?: boolean;
}

/** What a server offers, and what its URIs say of it. */
export interface ServedTls {
  readonly offer: TlsOffer;
  /** Undefined where clients may do without. */
  readonly security: UriSecurity | undefined;
}

/**
 * Reads the files that the options name; undefined if there is to be no TLS.
 * @throws INVALID_ARGUMENT, NOT_FOUND, IO
 */
export async function loadTls(options: TlsOptions, logger: Logger): Promise<ServedTls | undefined> {
  const { tls, tlsCertificates, tlsPsk, tlsVerifyPeer = false } = options;
  const hasFiles = tlsCertificates !== undefined || tlsPsk !== undefined;
  if (tls === undefined && (hasFiles || tlsVerifyPeer))
    throw refusal(
      '--tls is not given: say --tls require, or --tls on if clients may do without encryption, or --tls off if it is for replication alone',
    );
  if (tls === undefined || tls === 'off') return undefined;
  if (tls !== 'on' && tls !== 'require') throw refusal(`--tls '${tls}' is none of off, on and require`);
  if (!hasFiles) throw refusal(`--tls ${tls} needs --tls-certificates DIR or --tls-psk FILE`);
  if (tlsCertificates !== undefined && tlsPsk !== undefined)
    throw refusal('--tls-certificates and --tls-psk exclude each other: give one of them');
  if (tlsPsk === undefined) {
    const credentials = await loadCertificates(path.resolve(tlsCertificates!), tlsVerifyPeer, logger);
    return { offer: { mode: tls, credentials }, security: tls === 'require' ? {} : undefined };
  }
  if (tlsVerifyPeer)
    throw refusal(
      '--tls-verify-peer goes with --tls-certificates: with --tls-psk every client proves its key',
    );
  const file = path.resolve(tlsPsk);
  const credentials = await loadSharedKeys(file, logger);
  const [name] = credentials.keys.keys();
  const security = tls === 'require' ? { sharedKey: { name: name!, file } } : undefined;
  return { offer: { mode: tls, credentials }, security };
}

function refusal(message: string): StoreError {
  return new StoreError('INVALID_ARGUMENT', message);
}
