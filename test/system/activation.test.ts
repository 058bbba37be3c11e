/** Socket activation of the built program: what is handed over is listened on, and whoever is not meant leaves it alone. */

import { spawn } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import * as nbd from '../../src/nbd/protocol.ts';
import { serverNames } from '../nbd/conformance/negotiation.ts';
import { RawClient } from '../nbd/raw-client.ts';
import { Cleanup, Program, runTool } from '../support/programs.ts';
import { ServedStore } from '../support/served-store.ts';
import { requireTools } from '../support/tools.ts';
import { MAIN } from '../cli/command.ts';

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

const cleanup = new Cleanup();
let store: ServedStore;
async function makeStore(): Promise<void> {
  store = await ServedStore.make(cleanup);
  for (const name of ['disk', 'other']) await store.coppice('create', name, '--size', '1M');
}
afterEach(() => cleanup.run());

/** A socket of this process as a descriptor for another one. */
const descriptorOf = (socket: object): number => (socket as { _handle: { fd: number } })._handle.fd;

const portOf = (server: net.Server): number => (server.address() as net.AddressInfo).port;

function listenUnix(file: string): Promise<net.Server> {
  return listening(net.createServer().listen(file));
}

function listenTcp(host: string): Promise<net.Server> {
  return listening(net.createServer().listen(0, host));
}

async function listening(server: net.Server): Promise<net.Server> {
  cleanup.add(() => server.close());
  await new Promise((resolve) => server.once('listening', resolve));
  return server;
}

/** Gives up this process's part of a listening socket, which would take clients too, and leaves its file. */
function giveUp(server: net.Server): void {
  const file = server.address();
  if (typeof file === 'string') fs.linkSync(file, `${file}.kept`);
  server.close();
  if (typeof file === 'string') fs.renameSync(`${file}.kept`, file);
}

interface Started {
  readonly ended: Promise<number | null>;
  out: string;
  err: string;
}

interface HowActivated {
  /** Whom the sockets are said to be for; the server itself, unless it is given. */
  readonly pid?: string;
  readonly count?: number;
  readonly names?: string;
  /** How often it is started, each time when the one before has ended. */
  readonly times?: number;
}

/** Starts `coppice serve` as systemd does, with `fds` from 3 on. */
function activate(fds: readonly number[], args: readonly string[] = [], how: HowActivated = {}): Started {
  const { pid = '$$', count = fds.length, names, times = 1 } = how;
  const start = `LISTEN_PID=${pid} exec "$0" "$@"`;
  const script = `for i in ${'again '.repeat(times)}; do sh -c '${start}' "$0" "$@" || exit; done`;
  const command = [process.execPath, MAIN, '--store', store.directory, 'serve', ...args];
  const child = spawn('sh', ['-c', script, ...command], {
    stdio: ['ignore', 'pipe', 'pipe', ...fds],
    detached: true,
    env: {
      ...process.env,
      LISTEN_FDS: String(count),
      ...(names === undefined ? {} : { LISTEN_FDNAMES: names }),
    },
  });
  const ended = new Promise<number | null>((resolve) => child.on('close', resolve));
  const started: Started = { ended, out: '', err: '' };
  child.stdout!.on('data', (text: Buffer) => (started.out += text.toString()));
  child.stderr!.on('data', (text: Buffer) => (started.err += text.toString()));
  cleanup.add(async () => {
    if (child.exitCode === null && child.signalCode === null) process.kill(-child.pid!, 'SIGKILL');
    await ended;
  });
  return started;
}

/** The processes that have served, when there were `count`. */
async function serving(started: Started, count = 1): Promise<number[]> {
  const pids = (): number[] =>
    [...started.err.matchAll(/"pid":(\d+),.*"serving"/g)].map((match) => Number(match[1]));
  await expect.poll(pids, { timeout: 20_000 }).toHaveLength(count);
  return pids();
}

/** Stops the server that serves now. */
function stop(started: Started): void {
  const pids = [...started.err.matchAll(/"pid":(\d+),.*"serving"/g)];
  process.kill(Number(pids.at(-1)![1]), 'SIGTERM');
}

async function stopLast(started: Started): Promise<void> {
  stop(started);
  expect(await started.ended).toBe(0);
}

async function exportsAt(to: string | { host: string; port: number }): Promise<string[]> {
  const client = await RawClient.connect(to);
  await client.greet();
  const names = serverNames(await client.negotiate(nbd.NBD_OPT_LIST));
  client.close();
  return names;
}

describe('a server that is started with sockets', () => {
  beforeEach(makeStore);

  it('listens on them, Unix and TCP, and on nothing else', async () => {
    const socket = store.file('handed over.sock');
    const servers = [await listenUnix(socket), await listenTcp('127.0.0.1'), await listenTcp('::1')];
    const [four, six] = [portOf(servers[1]!), portOf(servers[2]!)];
    const started = activate(servers.map(descriptorOf));
    servers.forEach(giveUp);
    await serving(started);
    await expect.poll(() => started.out.split('\n').length).toBe(7);
    expect(started.out.split('\n').slice(0, 3)).toEqual([
      `nbd+unix:///disk?socket=${encodeURI(socket)}`,
      `nbd://127.0.0.1:${four}/disk`,
      `nbd://[::1]:${six}/disk`,
    ]);
    for (const to of [socket, { host: '127.0.0.1', port: four }, { host: '::1', port: six }])
      expect(await exportsAt(to)).toEqual(['disk', 'other']);
    expect(fs.existsSync(path.join(store.directory, 'nbd.sock'))).toBe(false);
    await stopLast(started);
  });

  it('leaves the file where it was, and who connects while it is not there is served by the next one', async () => {
    const socket = store.file('kept.sock');
    const server = await listenUnix(socket);
    const started = activate([descriptorOf(server)], [], { times: 2 });
    giveUp(server);
    await serving(started);
    expect(await exportsAt(socket)).toEqual(['disk', 'other']);
    stop(started);
    await expect.poll(() => started.err, { timeout: 20_000 }).toContain('"stopped"');
    expect(fs.statSync(socket).isSocket()).toBe(true);
    expect(await exportsAt(socket)).toEqual(['disk', 'other']);
    expect(new Set(await serving(started, 2)).size).toBe(2);
    await stopLast(started);
    expect(fs.statSync(socket).isSocket()).toBe(true);
  });

  it('knows them by the names that they have, and offers by these what it is told to', async () => {
    const rules = store.file('rules.json');
    fs.writeFileSync(
      rules,
      JSON.stringify([
        { listener: 'guests', exports: ['disk'], readOnly: true },
        { listener: 'unknown', exports: ['other'] },
      ]),
    );
    const [first, second] = [store.file('a.sock'), store.file('b.sock')];
    const servers = [await listenUnix(first), await listenUnix(second)];
    const started = activate(servers.map(descriptorOf), ['--access', rules], { names: 'guests' });
    servers.forEach(giveUp);
    await serving(started);
    expect(await exportsAt(first)).toEqual(['disk']);
    expect(await exportsAt(second)).toEqual(['other']);
    await expect
      .poll(() => started.out)
      .toBe(`nbd+unix:///disk?socket=${first}\nnbd+unix:///other?socket=${second}\n`);
    await stopLast(started);
  });

  it('that are meant for another process leaves them alone', async () => {
    const server = await listenUnix(store.file('not ours.sock'));
    const started = activate([descriptorOf(server)], [], { pid: '1' });
    await serving(started);
    await expect.poll(() => started.out).toContain(`socket=${store.directory}/nbd.sock`);
    expect(started.out).not.toContain('ours');
    await stopLast(started);
  });

  it('hands them on to no other program', async () => {
    const server = await listenUnix(store.file('own.sock'));
    const started = activate([descriptorOf(server)]);
    const [pid] = await serving(started);
    const flags = Number.parseInt(
      /flags:\s+(\d+)/.exec(fs.readFileSync(`/proc/${pid}/fdinfo/3`, 'utf8'))![1]!,
      8,
    );
    expect(flags & 0o2000000).not.toBe(0);
    await stopLast(started);
  });

  it('refuses what is no such socket by a sentence, before anything is opened', async () => {
    const started = activate([fs.openSync(MAIN, 'r')]);
    expect(await started.ended).toBe(2);
    expect(started.err).toMatch(/^coppice: descriptor 3 \(unknown\).*is not a socket\n$/);
    expect(fs.existsSync(path.join(store.directory, 'control.sock'))).toBe(false);
    await store.coppice('list');
  });

  it('refuses fewer than it was told of', async () => {
    const server = await listenUnix(store.file('one.sock'));
    const started = activate([descriptorOf(server)], [], { count: 40 });
    expect(await started.ended).toBe(2);
    expect(started.err).toMatch(/descriptor \d+ \(unknown\)/);
  });
});

describe.skipIf(!requireTools(['systemd-socket-activate', 'nbdinfo']))('systemd-socket-activate', () => {
  beforeEach(makeStore);

  it('starts a server for the first client, who is served', async () => {
    const socket = store.file('lazy.sock');
    const args = [
      '-l',
      socket,
      '--fdname=guests',
      process.execPath,
      MAIN,
      '--store',
      store.directory,
      'serve',
    ];
    const launcher = new Program('systemd-socket-activate', args);
    cleanup.add(() => launcher.kill());
    await launcher.until(() => launcher.output.includes('Listening on'), 'listener');
    expect(fs.existsSync(path.join(store.directory, 'control.sock'))).toBe(false);
    const { result, output } = await runTool('nbdinfo', ['--size', `nbd+unix:///disk?socket=${socket}`]);
    expect(output.trim()).toBe(String(2 ** 20));
    expect(result).toBe(0);
    await launcher.kill('SIGTERM');
    expect(launcher.result).toBe(0);
    expect(fs.statSync(socket).isSocket()).toBe(true);
  });
});
