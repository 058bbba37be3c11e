/**
 * Where somebody listens: `HOST:PORT`, or the path of a Unix socket. Pure.
 *
 * Invariant: whoever needs no protection of its own is on this machine (`isOfThisMachine`).
 */

import { isIP } from 'node:net';

export interface TcpAddress {
  readonly host: string;
  readonly port: number;
}

/** Where clients find a listener. */
export type ListenerAddress = { readonly socketPath: string } | TcpAddress;

const TCP = /^(?:\[(?<six>[0-9a-f:.]+(?:%[\w.-]+)?)\]|(?<host>[^\s:[\]/]+)):(?<port>\d{1,5})$/i;
const PORT_MAX = 65535;

/** Reads `127.0.0.1:10809`, `localhost:0`, `[::1]:10809`; undefined if it is none of these. */
export function tcpAddressOf(text: string): TcpAddress | undefined {
  const groups = TCP.exec(text)?.groups;
  const host = groups?.six ?? groups?.host;
  const port = Number(groups?.port);
  return host === undefined || port > PORT_MAX ? undefined : { host, port };
}

/** Reads an address of TCP, or the absolute path of a socket; undefined if it is neither. */
export function addressOf(text: string): ListenerAddress | undefined {
  return /^\/[^\0]{1,4000}$/.test(text) ? { socketPath: text } : tcpAddressOf(text);
}

/** Nobody but users of this machine is behind the address, or can listen in. */
export function isOfThisMachine(address: ListenerAddress): boolean {
  if ('socketPath' in address) return true;
  const { host } = address;
  return host === 'localhost' || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'));
}
