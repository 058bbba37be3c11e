/** Real clients on a served store that asks for TLS: QEMU's tools and libnbd's, by certificates and by shared keys. */

import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { Cleanup, type Outcome, runTool, tool } from '../support/programs.ts';
import { ServedStore } from '../support/served-store.ts';
import { scratchDirectory } from '../support/stores.ts';
import { type MadeCertificates, makeCertificates, makeSharedKeys, TLS_TOOLS } from '../support/tls-files.ts';
import { requireTools } from '../support/tools.ts';

const MIB = 2 ** 20;
const DISK_BYTES = 16 * MIB;
const TEST_MS = 120_000;
const CLIENTS = ['nbdinfo', 'nbdcopy', 'qemu-img', 'qemu-io', 'psktool'];

const cleanup = new Cleanup();
afterEach(() => cleanup.run(), 60_000);

/** How to reach the disk: by libnbd's URI, or by QEMU's options. */
interface Way {
  readonly uri: string;
  readonly qemu: readonly string[];
}

class Served {
  readonly store: ServedStore;
  readonly port: number;

  private constructor(store: ServedStore, port: number) {
    this.store = store;
    this.port = port;
  }

  static async start(...options: string[]): Promise<Served> {
    const store = await ServedStore.make(cleanup, ['--segment-size', '16M']);
    await store.coppice('create', 'disk', '--size', String(DISK_BYTES));
    const socket = store.file('nbd.sock');
    await store.start('--socket', socket, '--listen', '127.0.0.1:0', ...options);
    await expect.poll(() => store.printed.length, { timeout: 10_000 }).toBe(2);
    const uri = store.printed.find((each) => /^nbds?:/.test(each))!;
    return new Served(store, Number(new URL(uri.replace(/^nbds?/, 'http')).port));
  }

  /** By certificates in `directory`. */
  byCertificates(directory: string): Record<'tcp' | 'unix', Way> {
    const socket = this.store.file('nbd.sock');
    const creds = ['--object', `tls-creds-x509,id=tls0,endpoint=client,dir=${directory}`, '--image-opts'];
    const to = 'export=disk,tls-creds=tls0,tls-hostname=localhost';
    return {
      tcp: {
        uri: `nbds://localhost:${this.port}/disk?tls-certificates=${directory}`,
        qemu: [...creds, `driver=nbd,host=localhost,port=${this.port},${to}`],
      },
      unix: {
        uri: `nbds+unix:///disk?socket=${socket}&tls-certificates=${directory}`,
        qemu: [...creds, `driver=nbd,path=${socket},${to}`],
      },
    };
  }

  /** By the key of `name` in `file`; `more` is for QEMU's credentials. */
  byKey(file: string, name: string, more = ''): Record<'tcp' | 'unix', Way> {
    const socket = this.store.file('nbd.sock');
    const directory = path.join(this.store.scratch, path.basename(`${file}.d`));
    fs.mkdirSync(directory, { recursive: true });
    fs.copyFileSync(file, path.join(directory, 'keys.psk'));
    const object = `tls-creds-psk,id=tls0,endpoint=client,username=${name},dir=${directory}${more}`;
    const creds = ['--object', object, '--image-opts'];
    return {
      tcp: {
        uri: `nbds://${name}@localhost:${this.port}/disk?tls-psk-file=${file}`,
        qemu: [...creds, `driver=nbd,host=localhost,port=${this.port},export=disk,tls-creds=tls0`],
      },
      unix: {
        uri: `nbds+unix://${name}@/disk?socket=${socket}&tls-psk-file=${file}`,
        qemu: [...creds, `driver=nbd,path=${socket},export=disk,tls-creds=tls0`],
      },
    };
  }

  /** Why clients were refused. */
  get refusals(): unknown[] {
    const lines = this.store.log.split('\n').filter((line) => line.startsWith('{'));
    const logged = lines.map((line) => JSON.parse(line) as Record<string, unknown>);
    return logged.filter(({ msg }) => msg === 'a client was refused').map(({ reason }) => reason);
  }
}

const nbdinfo = (uri: string): Promise<Outcome> => runTool('nbdinfo', ['--size', uri]);
const qemuIo = ({ qemu }: Way, ...lines: string[]): Promise<Outcome> =>
  runTool('qemu-io', [...qemu, ...lines.flatMap((line) => ['-c', line])]);

/** Each client writes, and reads what it and the others have written. */
async function worksFor(served: Served, way: Way): Promise<void> {
  const source = served.store.file('source.raw');
  const target = served.store.file('target.raw');
  fs.writeFileSync(source, randomBytes(DISK_BYTES));
  expect((await tool('nbdinfo', ['--size', way.uri])).trim()).toBe(String(DISK_BYTES));
  await tool('nbdcopy', [source, way.uri]);
  await tool('nbdcopy', ['--connections=4', way.uri, target]);
  expect(fs.readFileSync(target).equals(fs.readFileSync(source))).toBe(true);
  const written = await qemuIo(
    way,
    'write -P 7 1001 3000000',
    'flush',
    'read -P 7 1001 3000000',
    'discard 4M 1M',
  );
  expect(written.output).not.toMatch(/fail|error/i);
  await tool('qemu-img', ['convert', ...way.qemu, '-O', 'raw', target]);
  const expected = fs.readFileSync(source);
  expected.fill(7, 1001, 3_001_001);
  expected.fill(0, 4 * MIB, 5 * MIB);
  expect(fs.readFileSync(target).equals(expected)).toBe(true);
}

describe.skipIf(!requireTools([...CLIENTS, ...TLS_TOOLS]))('a store that is served with TLS', () => {
  let made: MadeCertificates;
  beforeAll(() => {
    made = makeCertificates(scratchDirectory());
  });

  it.each(['tcp', 'unix'] as const)(
    'by certificates, over %s',
    async (over) => {
      const served = await Served.start('--tls=require', '--tls-certificates', made.all, '--tls-verify-peer');
      await worksFor(served, served.byCertificates(made.all)[over]);
      expect(served.refusals).toEqual([]);
      expect((await served.store.stop()).code).toBe(0);
    },
    TEST_MS,
  );

  it.each(['tcp', 'unix'] as const)(
    'by a shared key that psktool has made, over %s',
    async (over) => {
      const file = path.join(scratchDirectory(), 'keys.psk');
      await tool('psktool', ['-u', 'alice', '-p', file]);
      await tool('psktool', ['-u', 'bob', '-p', file]);
      const served = await Served.start('--tls=require', '--tls-psk', file);
      await worksFor(served, served.byKey(file, 'bob')[over]);
      const older = served.byKey(file, 'alice', ',priority=NORMAL:-VERS-ALL:+VERS-TLS1.2')[over];
      expect((await qemuIo(older, 'read 0 4096')).output).not.toMatch(/fail|error/i);
      expect(served.refusals).toEqual([]);
      expect((await served.store.stop()).code).toBe(0);
    },
    TEST_MS,
  );

  it(
    'lets in, by the URI that it prints for a Unix socket, whoever can read the file of keys',
    async () => {
      const file = makeSharedKeys(path.join(scratchDirectory(), 'some keys.psk'), 'alice', 'bob');
      const served = await Served.start('--tls=require', '--tls-psk', file);
      const uri = served.store.printed.find((each) => each.startsWith('nbds+unix:'))!;
      expect((await tool('nbdinfo', ['--size', uri])).trim()).toBe(String(DISK_BYTES));
      expect(served.store.printed.some((each) => each.startsWith('nbds://127.0.0.1:'))).toBe(true);
    },
    TEST_MS,
  );

  it(
    'keeps out clients of another key, another authority, without a certificate, and without TLS',
    async () => {
      const keys = makeSharedKeys(path.join(scratchDirectory(), 'keys.psk'), 'alice');
      const others = makeSharedKeys(path.join(scratchDirectory(), 'others.psk'), 'alice');
      const byKeys = await Served.start('--tls=require', '--tls-psk', keys);
      const byNames = await Served.start(
        '--tls=require',
        '--tls-certificates',
        made.all,
        '--tls-verify-peer',
      );
      const ways = [
        ...Object.values(byKeys.byKey(others, 'alice')),
        ...[made.authorityOnly, made.stranger, made.expired].flatMap((each) =>
          Object.values(byNames.byCertificates(each)),
        ),
      ];
      for (const way of ways) {
        expect((await nbdinfo(way.uri)).result).not.toBe(0);
        expect((await qemuIo(way, 'read 0 512')).output).not.toContain('read 512/512');
      }
      const plain = { uri: `nbd://localhost:${byKeys.port}/disk`, qemu: ['-f', 'raw'] };
      const qemu = [...plain.qemu, plain.uri];
      expect((await nbdinfo(plain.uri)).output).toMatch(/TLS/i);
      expect((await qemuIo({ ...plain, qemu }, 'read 0 512')).output).toMatch(/TLS/i);
      // And whoever is right still gets in.
      expect((await nbdinfo(byKeys.byKey(keys, 'alice').tcp.uri)).result).toBe(0);
      expect((await nbdinfo(byNames.byCertificates(made.all).tcp.uri)).result).toBe(0);
    },
    TEST_MS,
  );

  it(
    'with --tls=on takes clients with TLS and without; with --tls=off none that insists on it',
    async () => {
      const keys = makeSharedKeys(path.join(scratchDirectory(), 'keys.psk'), 'alice');
      const on = await Served.start('--tls=on', '--tls-psk', keys);
      expect((await nbdinfo(on.byKey(keys, 'alice').tcp.uri)).result).toBe(0);
      expect((await nbdinfo(`nbd://localhost:${on.port}/disk`)).result).toBe(0);
      const off = await Served.start('--tls=off', '--tls-psk', keys);
      expect((await nbdinfo(off.byKey(keys, 'alice').tcp.uri)).output).toMatch(/TLS/);
      expect((await nbdinfo(`nbd://localhost:${off.port}/disk`)).result).toBe(0);
    },
    TEST_MS,
  );
});
