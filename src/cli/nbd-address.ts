/**
 * Where NBD is served: `HOST:PORT` as `--listen` takes it, and the URIs that clients take. Pure.
 *
 * Source: doc/uri.md of the NBD project. A URI names an export after the slash and a socket in the query.
 */

import { StoreError } from '../base/errors.ts';
import { type ListenerAddress, type TcpAddress, tcpAddressOf } from '../base/address.ts';

/** The Unix socket that is listened on unless another address is given, in the store's directory. */
export const NBD_SOCKET_NAME = 'nbd.sock';

/** Reads `127.0.0.1:10809`, `localhost:0`, `[::1]:10809`. @throws INVALID_ARGUMENT */
export function parseListenAddress(text: string): TcpAddress {
  const address = tcpAddressOf(text);
  if (address !== undefined) return address;
  throw new StoreError(
    'INVALID_ARGUMENT',
    `--listen '${text}' is not HOST:PORT: write it like 127.0.0.1:10809, [::1]:10809, or 0.0.0.0:10809 for all`,
  );
}

/** What a client needs where TLS is required. */
export interface UriSecurity {
  /** A key that a client on this machine can use: one that is elsewhere has a file of its own. */
  readonly sharedKey?: { readonly name: string; readonly file: string };
}

/** The address that a client opens to reach `volume`; `security` undefined if it needs no TLS. */
export function nbdUri(listener: ListenerAddress, volume: string, security?: UriSecurity): string {
  const scheme = security === undefined ? 'nbd' : 'nbds';
  const name = encodeURIComponent(volume);
  if ('socketPath' in listener) {
    const { sharedKey } = security ?? {};
    const user = sharedKey === undefined ? '' : `${encodeURIComponent(sharedKey.name)}@`;
    const key = sharedKey === undefined ? '' : `&tls-psk-file=${encodePath(sharedKey.file)}`;
    return `${scheme}+unix://${user}/${name}?socket=${encodePath(listener.socketPath)}${key}`;
  }
  const host = listener.host.includes(':') ? `[${listener.host.replace('%', '%25')}]` : listener.host;
  return `${scheme}://${host}:${listener.port}/${name}`;
}

function encodePath(file: string): string {
  return file.split('/').map(encodeURIComponent).join('/');
}
