/** Files of certificates and shared keys: what is taken, and what is said of files that are not as they should be. */

import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import pino from 'pino';
import { beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { NbdServer } from '../../src/nbd/server.ts';
import { loadCertificates, loadSharedKeys } from '../../src/tls/credentials.ts';
import { scratchDirectory } from '../support/stores.ts';
import { type MadeCertificates, makeCertificates, TLS_TOOLS } from '../support/tls-files.ts';
import { requireTools } from '../support/tools.ts';
import { MemoryExports } from './memory-device.ts';

const HEX = '00112233445566778899aabbccddeeff';
let directory: string;
let warnings: string[];
const logger = pino(
  {},
  { write: (line: string) => void warnings.push((JSON.parse(line) as { msg: string }).msg) },
);

beforeEach(() => {
  directory = scratchDirectory();
  warnings = [];
});

const refusal = (code: string, message: string | RegExp): unknown =>
  expect.objectContaining({ code, message: expect.stringMatching(message) });

describe('a file of shared keys', () => {
  function fileOf(text: string, mode = 0o600): string {
    const file = path.join(directory, 'keys.psk');
    fs.writeFileSync(file, text, { mode });
    return file;
  }

  it.each([
    ['a line that psktool writes', `alice:${HEX}\n`, ['alice']],
    ['many, in capitals, without a last newline', `alice:${HEX}\nbob:${HEX.toUpperCase()}`, ['alice', 'bob']],
    ['lines of another system, and empty ones', `\r\nalice:${HEX}\r\n\r\n`, ['alice']],
    ['names with blanks and of any script', `Zoë Ž:${HEX}\na b@c.d/e:${HEX}${HEX}`, ['Zoë Ž', 'a b@c.d/e']],
    ['the name of a method', `__proto__:${HEX}\nconstructor:${HEX}`, ['__proto__', 'constructor']],
  ])('%s is taken', async (_, text, names) => {
    const { keys } = await loadSharedKeys(fileOf(text), logger);
    expect([...keys.keys()]).toEqual(names);
    expect(keys.get(names[0]!)!.toString('hex').slice(0, 32)).toBe(HEX);
    expect(warnings).toEqual([]);
  });

  it.each([
    ['nothing', '', /has no key: README/],
    ['a name alone', `alice:${HEX}\nbob\n`, /^line 2 of .* is not NAME:HEXKEY: write it with psktool/],
    ['a key alone', HEX, /^line 1 of/],
    ['no name', `:${HEX}`, /^line 1 of/],
    ['half a byte', `alice:${HEX}0`, /^line 1 of/],
    ['a key that is no number', 'alice:secret', /^line 1 of/],
    ['two colons', `alice:b:${HEX}`, /^line 1 of/],
    ['a name in numbers', `#616263:${HEX}`, /^line 1 of/],
    ['a short key', 'alice:0011', /has 2 bytes; give it 16 to 256/],
    ['a long key', `alice:${'00'.repeat(257)}`, /has 257 bytes/],
    ['a name twice', `alice:${HEX}\nalice:${HEX}`, /^line 2 .*has a key already: remove one/],
    ['a long name', `${'a'.repeat(256)}:${HEX}`, /longer than 255 bytes/],
  ])('with %s is refused, and no key is told', async (_, text, message) => {
    const error: unknown = await loadSharedKeys(fileOf(text), logger).catch((caught: unknown) => caught);
    expect(error).toEqual(refusal('INVALID_ARGUMENT', message));
    expect(String(error)).not.toContain(HEX.slice(0, 8));
  });

  it('that is not there, or is a directory, is refused by its name', async () => {
    const absent = path.join(directory, 'absent');
    await expect(loadSharedKeys(absent, logger)).rejects.toEqual(
      refusal('NOT_FOUND', `there is no ${absent}`),
    );
    await expect(loadSharedKeys(directory, logger)).rejects.toEqual(
      refusal('INVALID_ARGUMENT', 'give the file'),
    );
  });

  it('that everybody can read is used, with a warning', async () => {
    await loadSharedKeys(fileOf(`alice:${HEX}`, 0o644), logger);
    expect(warnings).toEqual([expect.stringContaining('chmod o-rwx')]);
  });
});

describe.skipIf(!requireTools(TLS_TOOLS))('a directory of certificates', () => {
  let made: MadeCertificates;
  beforeAll(() => {
    made = makeCertificates(scratchDirectory());
  });
  beforeEach(() => fs.cpSync(made.withList, directory, { recursive: true }));

  const file = (name: string): string => path.join(directory, name);

  it('has what a server needs', async () => {
    const whole = await loadCertificates(directory, true, logger);
    expect(whole.revoked?.map(String)).toEqual([expect.stringContaining('X509 CRL')]);
    const credentials = whole;
    const options = { exports: new MemoryExports(), logger, tls: { mode: 'on', credentials } } as const;
    await new NbdServer(options).close(0);
    expect(warnings).toEqual([]);
  });

  it('may have several lists of revoked certificates, with text between them, and none of them damaged', async () => {
    const lists = fs.readFileSync(path.join(made.withLists, 'ca-crl.pem'), 'latin1');
    fs.writeFileSync(file('ca-crl.pem'), `of both:\n${lists.replace(/(?<=END X509 CRL-----\n)/, 'and\n')}`);
    expect((await loadCertificates(directory, true, logger)).revoked).toHaveLength(2);
    for (const damaged of [
      '',
      'nothing',
      lists.slice(0, -40),
      lists.slice(0, lists.lastIndexOf('BEGIN') + 60),
    ]) {
      fs.writeFileSync(file('ca-crl.pem'), damaged);
      await expect(loadCertificates(directory, true, logger)).rejects.toThrow(
        /ca-crl\.pem is no list of revoked/,
      );
    }
  });

  it('needs no authority where clients are not verified, and never a list', async () => {
    fs.rmSync(file('ca-crl.pem'));
    expect((await loadCertificates(directory, true, logger)).revoked).toBeUndefined();
    fs.rmSync(file('ca-cert.pem'));
    expect((await loadCertificates(directory, false, logger)).clientAuthority).toBeUndefined();
  });

  it.each(['server-cert.pem', 'server-key.pem', 'ca-cert.pem'])('without %s is refused', async (name) => {
    fs.rmSync(file(name));
    await expect(loadCertificates(directory, true, logger)).rejects.toEqual(
      refusal('NOT_FOUND', `there is no ${file(name)}; README.md says`),
    );
  });

  it.each([
    ['server-cert.pem', /is no certificate in PEM/],
    ['server-key.pem', /is no private key in PEM without a passphrase/],
    ['ca-cert.pem', /is no certificate in PEM/],
    ['ca-crl.pem', /ca-crl.pem is no list of revoked certificates/],
  ])('with junk in %s is refused', async (name, message) => {
    for (const junk of ['', 'junk', '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n']) {
      fs.writeFileSync(file(name), junk);
      await expect(loadCertificates(directory, true, logger)).rejects.toEqual(
        refusal('INVALID_ARGUMENT', message),
      );
    }
  });

  it('with the key of somebody else, or one under a passphrase, is refused', async () => {
    fs.copyFileSync(path.join(made.all, 'client-key.pem'), file('server-key.pem'));
    await expect(loadCertificates(directory, false, logger)).rejects.toEqual(
      refusal('INVALID_ARGUMENT', /server-key.pem is not the key of .*server-cert.pem: put those together/),
    );
    const own = path.join(made.all, 'server-key.pem');
    const locked = ['pkey', '-in', own, '-aes128', '-passout', 'pass:secret', '-out', file('server-key.pem')];
    execFileSync('openssl', locked);
    await expect(loadCertificates(directory, false, logger)).rejects.toEqual(
      refusal('INVALID_ARGUMENT', /without a passphrase/),
    );
  });

  it('whose key everybody can read is used, with a warning', async () => {
    fs.chmodSync(file('server-key.pem'), 0o644);
    await loadCertificates(directory, true, logger);
    expect(warnings).toEqual([expect.stringContaining('chmod o-rwx')]);
  });

  it('whose certificate has expired is used, with a warning', async () => {
    for (const kind of ['cert', 'key'])
      fs.copyFileSync(path.join(made.expired, `client-${kind}.pem`), file(`server-${kind}.pem`));
    await loadCertificates(directory, true, logger);
    expect(warnings).toEqual([expect.stringContaining('has expired')]);
  });
});
