/** Where a served store is found by real clients: the URIs that `coppice serve` prints. */

import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { ok, run, serve, stop } from '../cli/command.ts';
import { Cleanup, runTool, tool } from '../support/programs.ts';
import { ServedStore } from '../support/served-store.ts';
import { requireTools } from '../support/tools.ts';

const TEST_MS = 120_000;
const SOCKET_PATH_BYTES_MAX = 107;

const cleanup = new Cleanup();
afterEach(() => cleanup.run(), 60_000);

async function makeStore(): Promise<ServedStore> {
  const store = await ServedStore.make(cleanup);
  await store.coppice('create', 'disk', '--size', '1M');
  return store;
}

const sizeAt = async (uri: string): Promise<string> => (await tool('nbdinfo', ['--size', uri])).trim();

/** Until the server has printed as many URIs. */
async function printed(store: ServedStore, count: number): Promise<string[]> {
  await expect.poll(() => store.printed.length, { timeout: 10_000 }).toBe(count);
  return store.printed;
}

describe.skipIf(!requireTools(['nbdinfo', 'qemu-io']))('the URIs that a server prints', () => {
  it(
    'lead clients to each volume over each listener, and to nothing that was not asked for',
    async () => {
      const store = await makeStore();
      await store.coppice('create', 'other', '--size', '2M');
      const socket = store.file('a socket');
      await store.start('--socket', socket, '--listen', '127.0.0.1:0');
      const uris = await printed(store, 4);
      const sizes = await Promise.all(uris.map(sizeAt));
      expect(sizes.sort((a, b) => Number(a) - Number(b))).toEqual([
        '1048576',
        '1048576',
        '2097152',
        '2097152',
      ]);
      expect(uris.filter((uri) => uri.startsWith('nbd://127.0.0.1:')).length).toBe(2);
      expect(fs.statSync(socket).mode & 0o777).toBe(0o600);
      expect(fs.existsSync(path.join(store.directory, 'nbd.sock'))).toBe(false);
      expect((await store.stop()).code).toBe(0);
      expect(fs.existsSync(socket)).toBe(false);
    },
    TEST_MS,
  );

  it(
    'lead over several sockets, ports and both kinds of IP at once, each of them by itself',
    async () => {
      const store = await makeStore();
      const sockets = [store.file('one.sock'), store.file('two.sock')];
      const taken = net.createServer().listen(0, '127.0.0.1');
      cleanup.add(() => taken.close());
      await new Promise((resolve) => taken.once('listening', resolve));
      const { port } = taken.address() as net.AddressInfo;
      // On this port IPv4 is another program's: whoever names IPv6 only gets it all the same.
      const addresses = ['127.0.0.1:0', '127.0.0.1:0', '[::1]:0', '[::1]:0', `[::]:${port}`];
      await store.start(
        ...sockets.flatMap((socket) => ['--socket', socket]),
        ...addresses.flatMap((address) => ['--listen', address]),
      );
      const uris = await printed(store, sockets.length + addresses.length);
      expect(new Set(uris).size).toBe(uris.length);
      const reached = uris.map((uri) => uri.replace('[::]', '[::1]'));
      expect(new Set(await Promise.all(reached.map(sizeAt)))).toEqual(new Set(['1048576']));
      expect((await store.stop()).code).toBe(0);
      for (const socket of sockets) expect(fs.existsSync(socket)).toBe(false);
    },
    TEST_MS,
  );

  it(
    'are those of what is offered, and a client gets no other, nor to write where it may only read',
    async () => {
      const store = await makeStore();
      for (const name of ['public', 'secret']) await store.coppice('create', name, '--size', '2M');
      for (const name of ['disk@a', 'secret@a']) await store.coppice('snapshot', name);
      const [all, some, rules] = ['all.sock', 'some.sock', 'rules.json'].map((name) => store.file(name));
      fs.writeFileSync(
        rules!,
        JSON.stringify([
          { listener: '*/all.sock', exports: ['*'] },
          { listener: '*/some.sock', exports: ['public', 'secret@*'], readOnly: true },
        ]),
      );
      await store.start(
        '--socket',
        all!,
        '--socket',
        some!,
        '--access',
        rules!,
        '--export',
        'p*',
        '--export',
        'disk*',
        '--export',
        'secret@*',
      );
      const uris = await printed(store, 3);
      const at = (socket: string, name: string): string => `nbd+unix:///${name}?socket=${socket}`;
      expect(uris).toEqual([at(all!, 'disk'), at(all!, 'public'), at(some!, 'public')]);
      const listed = async (socket: string): Promise<unknown[]> => {
        const text = await tool('nbdinfo', ['--list', '--json', at(socket, '')]);
        const { exports } = JSON.parse(text) as { exports: Record<string, unknown>[] };
        return exports.map((each) => [each['export-name'], each['is_read_only']]);
      };
      expect(await listed(all!)).toEqual([
        ['disk', false],
        ['disk@a', true],
        ['public', false],
        ['secret@a', true],
      ]);
      expect(await listed(some!)).toEqual([
        ['public', true],
        ['secret@a', true],
      ]);
      const told = async (name: string): Promise<string> => {
        const { result, output } = await runTool('nbdinfo', [at(some!, name)]);
        expect(result).toBe(1);
        return output.replaceAll(name, 'NAME');
      };
      expect(await told('secret')).toBe(await told('absent'));
      expect(await told('disk@a')).toBe(await told('absent@a'));
      const written = await runTool('qemu-io', ['-f', 'raw', '-c', 'write 0 512', at(some!, 'public')]);
      expect(written.output).toMatch(/permission denied|read-only|not permitted/i);
      expect((await store.stop()).code).toBe(0);
    },
    TEST_MS,
  );

  it(
    'work when the path of the store is longer than the address of a socket',
    async () => {
      const store = await makeStore();
      const directory = path.join(store.scratch, 'l'.repeat(SOCKET_PATH_BYTES_MAX), 'store');
      fs.mkdirSync(path.dirname(directory));
      await ok(directory, ['init']);
      await ok(directory, ['create', 'far', '--size', '1M']);
      const server = await serve(directory);
      try {
        await server.until(() => server.out.includes('\n'), 'a URI');
        expect(await sizeAt(server.out.trim())).toBe('1048576');
        expect(JSON.parse(await ok(directory, ['list', '--json']))).toMatchObject([{ name: 'far' }]);
      } finally {
        expect((await stop(server)).code).toBe(0);
      }
    },
    TEST_MS,
  );

  it(
    'give no client a way to write when the server is read-only',
    async () => {
      const store = await makeStore();
      await store.start('--read-only');
      const [uri] = await printed(store, 1);
      const info = JSON.parse(await tool('nbdinfo', ['--json', uri!])) as { exports: unknown[] };
      expect(info.exports).toMatchObject([{ is_read_only: true, can_multi_conn: true }]);
      const { output } = await runTool('qemu-io', ['-f', 'raw', '-c', 'write 0 512', uri!]);
      expect(output).toMatch(/permission denied|read-only|not permitted/i);
      expect((await store.stop()).code).toBe(0);
    },
    TEST_MS,
  );

  it(
    'are the same after a crash, whose socket is replaced, and a second server is refused while the first lives',
    async () => {
      const store = await makeStore();
      await store.start();
      const before = await printed(store, 1);
      await store.kill();
      expect(fs.existsSync(path.join(store.directory, 'nbd.sock'))).toBe(true);
      await store.start();
      expect(await printed(store, 1)).toEqual(before);
      const second = await run(['--store', store.directory, 'serve']);
      expect(second.code).toBe(1);
      expect(second.err).toMatch(/\bpid\b|process/i);
      expect(await sizeAt(before[0]!)).toBe('1048576');
      const elsewhere = await makeStore();
      const socket = path.join(store.directory, 'nbd.sock');
      const third = await run(['--store', elsewhere.directory, 'serve', '--socket', socket]);
      expect(third.code).toBe(1);
      expect(await sizeAt(before[0]!)).toBe('1048576');
    },
    TEST_MS,
  );
});
