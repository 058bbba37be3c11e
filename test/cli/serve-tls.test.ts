/** The options of `coppice serve` for TLS: which go together, and what URIs say. */

import fs from 'node:fs';
import path from 'node:path';
import pino from 'pino';
import { afterAll, describe, expect, it } from 'vitest';
import { nbdUri } from '../../src/cli/nbd-address.ts';
import { loadTls, type TlsOptions } from '../../src/cli/nbd-tls.ts';
import { temporaryDirectory } from '../server/served.ts';
import { makeSharedKeys } from '../support/tls-files.ts';
import { ok, run } from './command.ts';

const root = temporaryDirectory();
const logger = pino({ level: 'silent' });
const keys = makeSharedKeys(path.join(root, 'keys of clients.psk'), 'al ice', 'bob');
afterAll(() => fs.rmSync(root, { recursive: true, force: true }));

describe('--tls', () => {
  it('off, and no option at all, offer none', async () => {
    expect(await loadTls({}, logger)).toBeUndefined();
    expect(await loadTls({ tls: 'off', tlsPsk: '/absent' }, logger)).toBeUndefined();
  });

  it('on and require offer it; URIs ask for it only where it is required', async () => {
    const on = await loadTls({ tls: 'on', tlsPsk: keys }, logger);
    expect([on?.offer.mode, on?.security]).toEqual(['on', undefined]);
    const required = await loadTls({ tls: 'require', tlsPsk: keys }, logger);
    expect([required?.offer.mode, required?.security]).toEqual([
      'require',
      { sharedKey: { name: 'al ice', file: keys } },
    ]);
  });

  it.each<[string, TlsOptions, RegExp]>([
    ['keys without a mode', { tlsPsk: keys }, /--tls is not given: say --tls require/],
    ['certificates without a mode', { tlsCertificates: root }, /--tls is not given/],
    ['verification without a mode', { tlsVerifyPeer: true }, /--tls is not given/],
    ['an unknown mode', { tls: 'yes', tlsPsk: keys }, /none of off, on and require/],
    ['a mode without files', { tls: 'require' }, /needs --tls-certificates DIR or --tls-psk FILE/],
    ['both kinds', { tls: 'on', tlsPsk: keys, tlsCertificates: root }, /exclude each other/],
    [
      'verification by keys',
      { tls: 'on', tlsPsk: keys, tlsVerifyPeer: true },
      /goes with --tls-certificates/,
    ],
  ])('refuses %s, and says what to do', async (_, options, message) => {
    await expect(loadTls(options, logger)).rejects.toEqual(
      expect.objectContaining({ code: 'INVALID_ARGUMENT', message: expect.stringMatching(message) }),
    );
  });

  it('without its files ends the server before the store is opened, with a sentence', async () => {
    const store = path.join(root, 'store');
    await ok(store, ['init']);
    const absent = path.join(root, 'absent');
    for (const [option, file] of [
      ['--tls-psk', absent],
      ['--tls-certificates', path.join(absent, 'server-cert.pem')],
    ] as const) {
      const { code, out, err } = await run(['--store', store, 'serve', '--tls', 'require', option, absent]);
      expect([code, out]).toEqual([1, '']);
      expect(err).toBe(`coppice: there is no ${file}; README.md says under "TLS" how to make it\n`);
    }
  });
});

describe('the URI of a server that requires TLS', () => {
  it('is nbds, on each kind of listener', () => {
    expect(nbdUri({ host: '::1', port: 1 }, 'a/b', {})).toBe('nbds://[::1]:1/a%2Fb');
    expect(nbdUri({ socketPath: '/s' }, 'disk', {})).toBe('nbds+unix:///disk?socket=/s');
  });

  it('names the file of keys, and whose to take, to clients of this machine only', () => {
    const security = { sharedKey: { name: 'al ice', file: '/some keys' } };
    expect(nbdUri({ host: 'h', port: 1 }, 'disk', security)).toBe('nbds://h:1/disk');
    expect(nbdUri({ socketPath: '/s' }, 'disk', security)).toBe(
      'nbds+unix://al%20ice@/disk?socket=/s&tls-psk-file=/some%20keys',
    );
  });
});
