/**
 * Why TLS with another store came to nothing, as one line that says what to look at. OpenSSL's own texts are lines with places in
 * its source and a line feed behind; and who does not accept a certificate, or wants TLS, just hangs up.
 */

import net from 'node:net';
import type { Duplex } from 'node:stream';
import { TLSSocket } from 'node:tls';
import type { ClientCredentials } from '../tls/client.ts';

const OWN = '--replication-tls-psk and --replication-tls-name, or --replication-tls-certificates';
/** What OpenSSL makes of bytes that are not of TLS. */
const NOT_TLS = new Set([
  'ERR_SSL_WRONG_VERSION_NUMBER',
  'ERR_SSL_PACKET_LENGTH_TOO_LONG',
  'ERR_SSL_HTTP_REQUEST',
]);
const OUT_OF_TIME = new Set(['CERT_HAS_EXPIRED', 'CERT_NOT_YET_VALID']);
const HUNG_UP = new Set(['ECONNRESET', 'EPIPE']);
/** Names in a certificate that are told. */
const NAMES_CHARACTERS_MAX = 200;

interface TlsError extends Error {
  readonly code?: string;
  /** In OpenSSL's words. */
  readonly reason?: string;
  /** Of a certificate for another name. */
  readonly host?: string;
  readonly cert?: { readonly subjectaltname?: string; readonly subject?: { readonly CN?: unknown } };
}

/** What is wrong where a connection by TLS to another store could not be made; undefined where that is not about TLS. */
export function handshakeProblem(
  socket: TLSSocket,
  error: Error,
  kind: ClientCredentials['kind'],
): string | undefined {
  const { code = '', host, cert } = error as TlsError;
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') {
    const common = cert?.subject?.CN;
    const own = cert?.subjectaltname ?? (typeof common === 'string' ? common : '');
    const names = onOneLine(own).slice(0, NAMES_CHARACTERS_MAX);
    const isFor = names === '' ? 'names no host' : `is for ${names}`;
    return `the certificate of the other end ${isFor}, and not for ${host}: connect to a name that it has, or make one with that subjectAltName`;
  }
  if (OUT_OF_TIME.has(code))
    return `the certificate of the other end is not accepted (${onOneLine(error.message)}): look at the clocks, and make it anew there`;
  if (socket.authorizationError !== null)
    return kind === 'shared key'
      ? 'the other end proves itself by a certificate and not by a key: use --replication-tls-certificates here, or --tls-psk there'
      : `the certificate of the other end is not accepted (${onOneLine(error.message)}): ca-cert.pem in --replication-tls-certificates has to be of who signed it`;
  if (!socket.connecting && HUNG_UP.has(code))
    return `the other end hung up during the TLS handshake: it may not accept the key or certificate of this end, or not speak TLS; check ${OWN}, and the log of the other end`;
  return alertOf(error);
}

/** What it may mean that a connection to another store has ended. */
export function whyGone(socket: Duplex): (error: Error | undefined, hasHeard: boolean) => string {
  const isTls = socket instanceof TLSSocket;
  // By a path there is no TLS; and a socket that is closed does not know any more what it was.
  const isTcp = isTls || (socket instanceof net.Socket && socket.remoteAddress !== undefined);
  return (error, hasHeard) => {
    const told = error === undefined ? undefined : (alertOf(error) ?? onOneLine(error.message));
    const why = told === undefined ? '' : `: ${told}`;
    if (hasHeard || !isTcp || (error !== undefined && alertOf(error) !== undefined)) return why;
    const hint = isTls
      ? `it may not accept the key or certificate of this end: check ${OWN}, and the log of the other end`
      : `it may want TLS: give ${OWN}`;
    return ` before it said anything${why}; ${hint}`;
  };
}

function alertOf(error: Error): string | undefined {
  const { code = '', reason } = error as TlsError;
  if (!code.startsWith('ERR_SSL_')) return undefined;
  const said = onOneLine(reason ?? code);
  if (NOT_TLS.has(code))
    return `the other end does not speak TLS (${said}): have it serve with --tls-psk or --tls-certificates, or leave --replication-tls-psk and --replication-tls-certificates out here`;
  if (code.includes('_ALERT_'))
    return `the other end refused the TLS key or certificate of this one (${said}): check ${OWN}`;
  return `TLS failed (${said}): check ${OWN}, and what the other end serves with`;
}

/** What is printed must not move a cursor. */
function onOneLine(text: string): string {
  return text.replace(/[\p{Cc}\s]+/gu, ' ').trim();
}
