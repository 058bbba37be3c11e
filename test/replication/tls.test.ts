/** Who may connect: shared keys and certificates at both ends, and what happens to whoever lacks them. */

import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { silentLogger } from '../../src/base/logger.ts';
import { type ClientCredentials, loadClientCertificates, loadClientKey } from '../../src/tls/client.ts';
import { loadCertificates, loadSharedKeys, type TlsCredentials } from '../../src/tls/credentials.ts';
import { scratchDirectory } from '../support/stores.ts';
import { type MadeCertificates, makeCertificates, makeSharedKeys, TLS_TOOLS } from '../support/tls-files.ts';
import { requireTools } from '../support/tools.ts';
import { Site } from './site.ts';

const LOGGER = silentLogger as never;
const sites: Site[] = [];
let scratch: string;
let made: MadeCertificates;

beforeAll(() => {
  requireTools(TLS_TOOLS);
  scratch = scratchDirectory();
  made = makeCertificates(scratch);
  return () => fs.rmSync(scratch, { recursive: true });
});

afterEach(async () => {
  for (const each of sites.splice(0)) await each.remove();
});

const CHECK = '--replication-tls-psk and --replication-tls-name, or --replication-tls-certificates';
const REFUSED = new RegExp(
  `^\\S+: the other end refused the TLS key or certificate of this one \\([^)]+\\): check ${CHECK}$`,
);
const WANTS_TLS = `the connection to the other end is gone before it said anything; it may want TLS: give ${CHECK}`;
const NOT_ACCEPTED = `it may not accept the key or certificate of this end: check ${CHECK}, and the log of the other end`;

/** How a run between two stores ends: null if well. What it says is a line, and none of OpenSSL's. */
async function outcome(
  own: TlsCredentials | undefined,
  client: ClientCredentials | undefined,
  host = '127.0.0.1',
): Promise<string | null> {
  const to = await Site.make(own === undefined ? {} : { own });
  const from = await Site.make(client === undefined ? {} : { client });
  sites.push(from, to);
  await from.store.createVolume('disk', 1 << 20);
  await from.write('disk', 0, Buffer.alloc(300_000, 7));
  const id = await from.push('disk', to, { address: `${host}:${to.port}` });
  const { error } = await from.run(id);
  if (error === null) expect((await to.contents('disk')).equals(await from.contents('disk'))).toBe(true);
  else {
    expect(to.store.list()).toEqual([]);
    expect(error).not.toMatch(/\p{Cc}|openssl|: *$/u);
  }
  return error;
}

describe('shared keys', () => {
  it('let in who has one', async () => {
    const file = makeSharedKeys(path.join(scratch, 'keys'), 'alice', 'bob');
    const own = await loadSharedKeys(file, LOGGER);
    expect(await outcome(own, await loadClientKey(file, 'bob', LOGGER))).toBeNull();
  });

  it('keep out who has another, or none, or does not speak TLS', async () => {
    const [file, other] = ['keys', 'others'].map((name) => makeSharedKeys(path.join(scratch, name), 'alice'));
    const own = await loadSharedKeys(file!, LOGGER);
    const key = await loadClientKey(other!, 'alice', LOGGER);
    expect(await outcome(own, key)).toMatch(REFUSED);
    expect(await outcome(own, { ...key, name: 'mallory' } as ClientCredentials)).toMatch(REFUSED);
    expect(await outcome(own, undefined)).toBe(WANTS_TLS);
    expect(await outcome(undefined, key)).toMatch(
      /: the other end does not speak TLS \(.*\): have it serve with/,
    );
    const certificates = await loadClientCertificates(made.all, LOGGER);
    expect(await outcome(own, certificates)).toMatch(REFUSED);
    const server = await loadCertificates(made.all, true, LOGGER);
    expect(await outcome(server, key)).toMatch(
      /: the other end proves itself by a certificate and not by a key: use/,
    );
    expect(await outcome(server, undefined)).toBe(WANTS_TLS);
  });

  it('are found by their name', async () => {
    const file = makeSharedKeys(path.join(scratch, 'keys'), 'alice');
    await expect(loadClientKey(file, 'bob', LOGGER)).rejects.toThrow(/has no key of bob/);
  });
});

describe('certificates', () => {
  it('let in who shows one of the right authority, at both ends', async () => {
    const own = await loadCertificates(made.all, true, LOGGER);
    const client = await loadClientCertificates(made.all, LOGGER);
    expect(await outcome(own, client)).toBeNull();
    expect(await outcome(own, client, 'localhost')).toBeNull();
  });

  it('keep out who shows one of another authority, an expired or a revoked one', async () => {
    const own = await loadCertificates(made.all, true, LOGGER);
    const gone = /^the connection to the other end is gone before it said anything(: [^;]+)?; /;
    for (const of of ['stranger', 'expired'] as const) {
      const error = await outcome(own, await loadClientCertificates(made[of], LOGGER));
      expect([of, error]).toEqual([of, expect.stringMatching(gone)]);
      expect(error).toContain(NOT_ACCEPTED);
    }
    const withList = await loadCertificates(made.withList, true, LOGGER);
    const revoked = await loadClientCertificates(made.revoked, LOGGER);
    expect(await outcome(withList, revoked)).toContain(NOT_ACCEPTED);
  });

  it('are demanded of the server too, for its name', async () => {
    const own = await loadCertificates(made.all, true, LOGGER);
    const client = await loadClientCertificates(made.all, LOGGER);
    const otherAuthority = fs.readFileSync(path.join(scratch, 'other', 'ca-cert.pem'));
    expect(await outcome(own, { ...client, authority: otherAuthority } as ClientCredentials)).toMatch(
      /: the certificate of the other end is not accepted \(.*\): ca-cert\.pem in --replication-tls-certificates has/,
    );
    expect(await outcome(own, client, '127.0.0.2')).toMatch(/cannot be reached/);
    const elsewhere = await loadCertificates(made.elsewhere, true, LOGGER);
    expect(await outcome(elsewhere, client)).toMatch(
      /: the certificate of the other end is for elsewhere, and not for 127\.0\.0\.1: connect to a name that it has/,
    );
  });
});

it('who hangs up during the handshake may not accept what this end proves itself with', async () => {
  const listener = net.createServer((socket) => socket.once('data', () => socket.destroy()));
  await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve));
  const { port } = listener.address() as net.AddressInfo;
  const client = await loadClientCertificates(made.all, LOGGER);
  const site = await Site.make({ client });
  sites.push(site);
  await site.store.createVolume('disk', 1 << 20);
  const { error } = await site.run(await site.push('disk', site, { address: `127.0.0.1:${port}` }));
  expect(error).toBe(
    `127.0.0.1:${port}: the other end hung up during the TLS handshake: it may not accept the key or certificate of this end, or not speak TLS; check ${CHECK}, and the log of the other end`,
  );
  await new Promise((resolve) => listener.close(resolve));
});

it('nothing goes to another machine, and nobody is let in from one, without TLS', async () => {
  const site = await Site.make();
  sites.push(site);
  await site.store.createVolume('disk', 1 << 20);
  const id = await site.push('disk', site, { address: 'backup.example:1234' });
  expect((await site.run(id)).error).toMatch(/is on another machine, and there is no TLS/);
  await expect(site.listener.listen({ host: '0.0.0.0', port: 0 })).rejects.toThrow(/needs --tls-psk/);
  const file = site.file('replication.sock');
  await site.listener.listen({ socketPath: file });
  const other = await Site.make();
  sites.push(other);
  await other.store.createVolume('more', 1 << 20);
  expect((await other.run(await other.push('more', site, { address: file }))).error).toBeNull();
});
