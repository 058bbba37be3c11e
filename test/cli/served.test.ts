/**
 * `coppice serve` and the commands beside it, as child processes over a real store.
 */

import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { spawnSync } from 'node:child_process';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { temporaryDirectory } from '../server/served.ts';
import { requireTools } from '../support/tools.ts';
import { ok, run, Running, MAIN, serve, START, stop } from './command.ts';

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

const MIB = 2 ** 20;
const root = temporaryDirectory();
let stores = 0;

afterAll(() => fs.rmSync(root, { recursive: true, force: true }));

async function newStore(...parents: string[]): Promise<string> {
  const store = path.join(root, ...parents, `store-${stores++}`);
  fs.mkdirSync(path.dirname(store), { recursive: true });
  await ok(store, ['init']);
  return store;
}

async function untilOpen(socket: net.Socket): Promise<net.Socket> {
  await new Promise((resolve, reject) => {
    socket.once('connect', resolve);
    socket.once('error', reject);
  });
  socket.on('error', () => undefined);
  return socket;
}

/** The first bytes that an NBD server says. */
async function greeting(socket: net.Socket): Promise<string> {
  await untilOpen(socket);
  return await new Promise((resolve) => socket.once('data', (piece) => resolve(piece.toString('latin1'))));
}

describe('a served store', () => {
  it('prints one bare URI for each volume and listener, and logs elsewhere', async () => {
    const store = await newStore();
    await ok(store, ['create', 'a', '--size', '1M']);
    await ok(store, ['create', 'b', '--size', '1M']);
    await ok(store, ['snapshot', 'a@s']);
    const server = await serve(store);
    await server.until(() => server.out.split('\n').length > 2, 'the URIs');
    const socket = `${store}/nbd.sock`;
    expect(server.out).toBe(`nbd+unix:///a?socket=${socket}\nnbd+unix:///b?socket=${socket}\n`);
    for (const file of ['nbd.sock', 'control.sock', 'store.lock', 'superblock']) {
      expect(fs.statSync(path.join(store, file)).mode & 0o777).toBe(0o600);
    }
    expect(fs.statSync(store).mode & 0o777).toBe(0o700);
    const ended = await stop(server);
    expect(ended.code).toBe(0);
    for (const line of ended.err.trim().split('\n')) expect(() => JSON.parse(line)).not.toThrow();
    expect(fs.existsSync(path.join(store, 'nbd.sock'))).toBe(false);
    expect(fs.existsSync(path.join(store, 'control.sock'))).toBe(false);
  });

  it('listens only where it is told to', async () => {
    const store = await newStore();
    await ok(store, ['create', 'disk', '--size', '1M']);
    const socket = path.join(root, 'my sockets', 'n&b.sock');
    fs.mkdirSync(path.dirname(socket));
    const server = await serve(store, ['--socket', socket, '--listen', '127.0.0.1:0', '--listen', '[::1]:0']);
    await server.until(() => server.out.split('\n').length > 3, 'the URIs');
    const [unix, four, six] = server.out.split('\n');
    expect(unix).toBe(`nbd+unix:///disk?socket=${root}/my%20sockets/n%26b.sock`);
    expect(four).toMatch(/^nbd:\/\/127\.0\.0\.1:\d+\/disk$/);
    expect(six).toMatch(/^nbd:\/\/\[::1\]:\d+\/disk$/);
    expect(fs.existsSync(path.join(store, 'nbd.sock'))).toBe(false);
    const open = [
      () => net.connect(socket),
      () => net.connect(Number(new URL(four!).port), '127.0.0.1'),
      () => net.connect(Number(new URL(six!).port), '::1'),
    ];
    for (const connect of open) expect(await greeting(connect())).toContain('NBDMAGIC');
    expect((await stop(server, 'SIGINT')).code).toBe(0);
  });

  it('without a volume serves what is created later', async () => {
    const store = await newStore();
    const server = await serve(store);
    await server.until(() => server.err.includes('no volume yet'), 'the hint');
    await ok(store, ['create', 'late', '--size', '1M']);
    expect(server.out).toBe('');
    expect(JSON.parse(await ok(store, ['list', '--json']))).toMatchObject([{ name: 'late' }]);
    expect((await stop(server)).code).toBe(0);
  });

  it('stops within five seconds with clients connected', async () => {
    const store = await newStore();
    await ok(store, ['create', 'disk', '--size', '1M']);
    const server = await serve(store);
    const clients = await Promise.all(
      ['nbd.sock', 'nbd.sock', 'control.sock', 'control.sock'].map((name) =>
        untilOpen(net.connect(path.join(store, name))),
      ),
    );
    clients[3]!.write(
      'PUT /v1/disk/bytes?name=disk&offset=0 HTTP/1.1\r\nhost: x\r\ncontent-length: 4096\r\n',
    );
    clients[3]!.write('content-type: application/octet-stream\r\n\r\nhalf');
    await new Promise((resolve) => setTimeout(resolve, 100));
    const ended = await stop(server);
    expect(ended.code).toBe(0);
    expect(ended.tookMs).toBeLessThan(5000);
  });

  it('does not mind that nobody reads what it prints', async () => {
    const store = await newStore();
    await ok(store, ['create', 'disk', '--size', '1M']);
    const server = new Running(MAIN, ['--store', store, 'serve']);
    server.child.stdout!.destroy();
    await server.until(() => fs.existsSync(path.join(store, 'nbd.sock')), 'the socket');
    expect(await ok(store, ['list'])).toContain('disk');
    expect((await stop(server)).code).toBe(0);
  });

  it('that was killed starts again over its own sockets, with what was written', async () => {
    const store = await newStore();
    const image = Buffer.alloc(3 * MIB, 'kept');
    const killed = await serve(store);
    await ok(store, ['import', 'disk', '-', '--size', '3M'], { input: image });
    expect((await stop(killed, 'SIGKILL')).signal).toBe('SIGKILL');
    expect(fs.existsSync(path.join(store, 'nbd.sock'))).toBe(true);
    const server = await serve(store);
    expect((await run(['--store', store, 'export', 'disk', '-'])).bytes.equals(image)).toBe(true);
    expect((await stop(server)).code).toBe(0);
    expect(await ok(store, ['fsck'])).toContain('clean');
  });

  it('refuses a TCP port that is in use, and opens nothing', async () => {
    const store = await newStore();
    const taken = net.createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => taken.once('listening', resolve));
    const { port } = taken.address() as net.AddressInfo;
    const ended = await run(['--store', store, 'serve', '--listen', `127.0.0.1:${port}`]);
    taken.close();
    expect(ended.code).toBe(1);
    expect(ended.err).toMatch(new RegExp(`port ${port} of 127.0.0.1 is in use; .*--listen`));
    expect(ended.out).toBe('');
    expect(fs.readdirSync(store)).not.toContain('control.sock');
    expect(await ok(store, ['list'])).toContain('no volume');
  });

  it('works in a directory whose path is longer than a socket address', async () => {
    const store = await newStore('l'.repeat(60), 'o'.repeat(60));
    await ok(store, ['create', 'disk', '--size', '1M']);
    const server = await serve(store);
    await server.until(() => server.out !== '', 'the URI');
    expect(await ok(store, ['list'])).toContain('disk');
    await ok(store, ['snapshot', 'disk@a']);
    expect(fs.statSync(path.join(store, 'nbd.sock')).isSocket()).toBe(true);
    const socket = new URL(server.out.trim()).searchParams.get('socket')!;
    expect(socket.length).toBeLessThan(108);
    expect(await greeting(net.connect(socket))).toContain('NBDMAGIC');
    expect((await stop(server)).code).toBe(0);
    expect(fs.readdirSync(store).filter((name) => name.endsWith('.sock'))).toEqual([]);
  });
});

describe.each(['nobody', 'a server'])('when %s has the store', (owner) => {
  it('a disk goes in, through a snapshot and a clone, and out', async () => {
    const store = await newStore();
    const server = owner === 'nobody' ? undefined : await serve(store);
    const image = Buffer.alloc(9 * MIB + 1000);
    for (const at of [0, 4 * MIB - 1, 9 * MIB]) image.fill('image', at, at + 900);
    const file = path.join(root, `image-${stores}`);
    fs.writeFileSync(file, image);
    await ok(store, ['import', 'disk', file]);
    await ok(store, ['create', 'other', '--size', '1.5M']);
    expect(await ok(store, ['snapshot', 'disk@a', 'other@a'])).toBe(
      'took snapshot disk@a\ntook snapshot other@a\n',
    );
    await ok(store, ['import', 'disk', '-', '--force'], { input: 'changed' });
    await ok(store, ['clone', 'disk@a', 'copy']);
    for (const name of ['disk@a', 'copy']) {
      await ok(store, ['export', name, `${file}.out`]);
      const out = fs.readFileSync(`${file}.out`);
      expect(out).toHaveLength(9 * MIB + 1024);
      expect(out.subarray(0, image.length).equals(image)).toBe(true);
      expect(fs.statSync(`${file}.out`).blocks * 512).toBeLessThan(MIB);
    }
    const head = (await run(['--store', store, 'export', 'disk', '-'])).bytes;
    expect(head.subarray(0, 8).toString()).toBe('changed\0');
    expect(head.subarray(7).every((byte) => byte === 0)).toBe(true);
    const list = JSON.parse(await ok(store, ['list', '--json'])) as Record<string, unknown>[];
    expect(list.map(({ name, kind, size, parent }) => [name, kind, size, parent])).toEqual([
      ['copy', 'volume', 9 * MIB + 1024, 'disk@a'],
      ['disk', 'volume', 9 * MIB + 1024, 'disk@a'],
      ['disk@a', 'snapshot', 9 * MIB + 1024, null],
      ['other', 'volume', 1.5 * MIB, 'other@a'],
      ['other@a', 'snapshot', 1.5 * MIB, null],
    ]);
    expect(await ok(store, ['tree'])).toMatch(
      /^disk@a .*\n├─ copy .*\n└─ disk .*\nother@a .*\n↓ other .*\n$/,
    );
    expect(JSON.parse(await ok(store, ['tree', '--json']))).toMatchObject([
      { name: 'disk@a', children: [{ name: 'copy', children: [] }, { name: 'disk' }] },
      { name: 'other@a' },
    ]);
    expect(JSON.parse(await ok(store, ['show', 'copy', '--json']))).toEqual(list[0]);
    expect(await ok(store, ['show', 'copy'])).toMatch(
      /^name: +copy\nkind: +volume\nsize: +9 MiB \(9438208 bytes\)\n/,
    );
    const status = JSON.parse(await ok(store, ['status', '--json'])) as { owner: { pid: number } };
    expect(status).toMatchObject({ volumes: 3, snapshots: 2, state: 'open', segments: expect.any(Number) });
    expect(status).toHaveProperty('lastCheckpoint');
    expect(status).toHaveProperty('cache');
    if (server !== undefined) expect(status.owner.pid).toBe(server.child.pid);
    expect(await ok(store, ['status'])).toMatch(
      /volumes: +3\nsnapshots: +2\nlog: .*\nlive: .*\nroom: .*\ncompaction: .*\nsegments: /,
    );
    expect(await ok(store, ['fsck'])).toContain('clean\n');
    expect(JSON.parse(await ok(store, ['fsck', '--json']))).toEqual(expect.any(Array));
    if (server !== undefined) expect((await stop(server)).code).toBe(0);
  });

  it('an import that is stopped says what is left, and an export leaves nothing', async () => {
    const store = await newStore();
    const server = owner === 'nobody' ? undefined : await serve(store);
    const importing = new Running(MAIN, ['--store', store, 'import', 'disk', '-', '--size', '64M']);
    importing.child.stdin!.write(Buffer.alloc(9 * MIB, 'x'));
    const isLocked = (): boolean => fs.readFileSync(path.join(store, 'store.lock'), 'utf8') !== '';
    await importing.until(isLocked, 'the store');
    await new Promise((resolve) => setTimeout(resolve, 700));
    const stopped = await stop(importing, 'SIGINT');
    expect(stopped.code).toBe(130);
    expect(stopped.err).toMatch(
      /^coppice: stopped by SIGINT; volume 'disk' now holds a part of the image.*\n$/,
    );
    const out = path.join(root, `out-${stores}`);
    fs.mkdirSync(out);
    const exporting = new Running(MAIN, ['--store', store, 'export', 'disk', path.join(out, 'disk.raw')]);
    await exporting.until(() => fs.readdirSync(out).length > 0, 'the file');
    exporting.child.kill('SIGTERM');
    const ended = await exporting.ended;
    expect([0, 143]).toContain(ended.code);
    expect(fs.readdirSync(out)).toEqual(ended.code === 0 ? ['disk.raw'] : []);
    if (server !== undefined) expect((await stop(server)).code).toBe(0);
    expect(await ok(store, ['fsck'])).toContain('clean');
  });

  it('an export to a reader that leaves ends with a sentence', async () => {
    const store = await newStore();
    const server = owner === 'nobody' ? undefined : await serve(store);
    await ok(store, ['create', 'disk', '--size', '64M']);
    const exporting = new Running(MAIN, ['--store', store, 'export', 'disk', '-']);
    exporting.child.stdout!.once('data', () => exporting.child.stdout!.destroy());
    const ended = await exporting.ended;
    expect(ended.code).toBe(1);
    expect(ended.err).toMatch(/^coppice: .*reader went away; the image is not complete\n$/);
    if (server !== undefined) expect((await stop(server)).code).toBe(0);
  });
});

describe('the program', () => {
  it('finds its store by --store, COPPICE_STORE, or where it runs', async () => {
    const cwd = path.join(root, 'cwd');
    fs.mkdirSync(cwd);
    const printed = async (args: string[], env: Record<string, string> = {}): Promise<unknown> =>
      JSON.parse((await run([...args, '--json'], { cwd, env })).out);
    expect(await printed(['init'])).toEqual({ store: path.join(cwd, 'coppice-data') });
    expect(await printed(['init'], { COPPICE_STORE: 'b' })).toEqual({ store: path.join(cwd, 'b') });
    expect(await printed(['init', '--store', 'c'], { COPPICE_STORE: 'b' })).toEqual({
      store: path.join(cwd, 'c'),
    });
    expect(await printed(['list'], { COPPICE_STORE: '' })).toEqual([]);
  });

  it('answers --help and --version without loading what serves and stores', async () => {
    const report = `import { createRequire } from 'node:module';
      process.on('exit', () => console.error(Object.keys(createRequire('/').cache).join('\\n')));`;
    const nodeArgs = ['--import', `data:text/javascript,${encodeURIComponent(report)}`];
    for (const args of [['--help'], ['--version'], ['import', '--help']]) {
      const ended = await run(args, { nodeArgs });
      expect(ended.code).toBe(0);
      expect(ended.out).toMatch(args.includes('--version') ? /^\d+\.\d+\.\d+\n$/ : /^Usage: coppice/);
      expect(ended.err).toContain('commander');
      expect(ended.err).not.toMatch(/fastify|pino|classic-level|koffi|crc32/);
    }
  });

  it.each([
    ['an exception', "throw new TypeError('planted')"],
    ['a rejection that nobody handles', "Promise.reject(new TypeError('planted'))"],
  ])('ends with a stack and its own exit code on %s', async (_what, mistake) => {
    const store = await newStore();
    const plant = `setTimeout(() => { ${mistake}; }, 1000);`;
    const server = new Running(MAIN, ['--store', store, 'serve'], {
      nodeArgs: ['--import', `data:text/javascript,${encodeURIComponent(plant)}`],
    });
    const ended = await server.ended;
    expect(ended.code).toBe(70);
    expect(ended.err).toMatch(/mistake in Coppice.*\nTypeError: planted\n +at /);
    expect(await ok(store, ['fsck'])).toContain('clean');
  });

  it('ends at once on a second signal', async () => {
    const store = await newStore();
    const server = await serve(store);
    const client = await untilOpen(net.connect(path.join(store, 'control.sock')));
    client.write('PUT /v1/disk/bytes?name=disk&offset=0 HTTP/1.1\r\nhost: x\r\ncontent-length: 4096\r\n');
    client.write('content-type: application/octet-stream\r\n\r\nhalf');
    await new Promise((resolve) => setTimeout(resolve, 100));
    server.child.kill('SIGTERM');
    await server.until(() => server.err.includes('stopping'), 'the first signal to be noticed');
    await new Promise((resolve) => setTimeout(resolve, 300));
    const ended = await stop(server, 'SIGTERM');
    expect(ended.code).toBe(143);
    expect(ended.tookMs).toBeLessThan(1000);
  });

  it('shows its commands when it is given none', async () => {
    const ended = await run([]);
    expect(ended.code).toBe(2);
    expect(ended.err).toMatch(/^Usage: coppice/);
  });
});

describe('npm start', () => {
  it('makes a store with a volume, serves it, and says how to attach', async () => {
    const cwd = path.join(root, 'start');
    fs.mkdirSync(cwd);
    for (const _ of ['the first time', 'again']) {
      const started = new Running(START, [], { cwd, env: { COPPICE_PORT: '0' } });
      await started.until(() => started.out.includes('Ctrl-C'), 'the server');
      expect(started.out).toContain(`nbd+unix:///disk?socket=${cwd}/coppice-data/nbd.sock`);
      const port = Number(/nbd:\/\/127\.0\.0\.1:(\d+)\/disk/.exec(started.out)![1]);
      expect(await greeting(net.connect(port, '127.0.0.1'))).toContain('NBDMAGIC');
      for (const tool of ['qemu-system-x86_64', 'qemu-img', `nbd-client 127.0.0.1 ${port}`, 'nbdfuse']) {
        expect(started.out).toContain(tool);
      }
      const [disk] = JSON.parse(await ok(path.join(cwd, 'coppice-data'), ['list', '--json'])) as {
        size: number;
      }[];
      expect(disk!.size).toBe(20 * 2 ** 30);
      expect((await stop(started, 'SIGINT')).code).toBe(0);
    }
  });

  it('says what to do when its port is taken', async () => {
    const taken = net.createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => taken.once('listening', resolve));
    const { port } = taken.address() as net.AddressInfo;
    const cwd = path.join(root, 'taken');
    fs.mkdirSync(cwd);
    const ended = await new Running(START, [], { cwd, env: { COPPICE_PORT: String(port) } }).ended;
    taken.close();
    expect(ended.code).toBe(1);
    expect(ended.err).toMatch(new RegExp(`^coppice: port ${port} .*COPPICE_PORT=${port + 1} npm start`, 'm'));
    expect((await new Running(START, [], { cwd, env: { COPPICE_PORT: 'x' } }).ended).code).toBe(2);
  });
});

describe.skipIf(!requireTools(['nbdinfo', 'qemu-img']))('real clients', () => {
  const tool = (name: string, ...args: string[]): string => {
    const { status, stdout, stderr } = spawnSync(name, args, { encoding: 'utf8' });
    if (status !== 0) throw new Error(`${name} ${args.join(' ')}: ${stderr}`);
    return stdout;
  };

  it.each(['store', 'a store, & more', 'long'.repeat(40)])(
    'take the URI of %s as it is printed',
    async (name) => {
      const store = await newStore(name);
      const server = await serve(store, [
        '--listen',
        '127.0.0.1:0',
        '--socket',
        path.join(store, 'nbd.sock'),
      ]);
      await ok(store, ['import', 'disk', '-', '--size', '8M'], { input: Buffer.alloc(MIB, 'x') });
      await ok(store, ['snapshot', 'disk@a']);
      expect((await stop(server)).code).toBe(0);
      const again = await serve(store, ['--listen', '127.0.0.1:0', '--socket', path.join(store, 'nbd.sock')]);
      await again.until(() => again.out.split('\n').length > 2, 'the URIs');
      const uris = again.out.trim().split('\n');
      expect(uris).toHaveLength(2);
      for (const uri of uris) {
        expect(tool('nbdinfo', '--size', uri).trim()).toBe(String(8 * MIB));
        const copy = path.join(root, 'copy.raw');
        tool('qemu-img', 'convert', '-f', 'raw', '-O', 'raw', uri.replace('/disk', '/disk@a'), copy);
        await ok(store, ['export', 'disk@a', `${copy}.ours`]);
        expect(fs.readFileSync(copy).equals(fs.readFileSync(`${copy}.ours`))).toBe(true);
      }
      expect((await stop(again)).code).toBe(0);
    },
  );

  it('cannot write when the store is served --read-only', async () => {
    const store = await newStore();
    await ok(store, ['create', 'disk', '--size', '1M']);
    const server = await serve(store, ['--read-only']);
    await server.until(() => server.out !== '', 'the URI');
    expect(tool('nbdinfo', server.out.trim())).toContain('is_read_only: true');
    expect((await stop(server)).code).toBe(0);
  });
});
