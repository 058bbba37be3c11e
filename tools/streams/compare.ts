/**
 * The same change carried to a copy by three means: a delta of Coppice, QEMU's incremental backup by a dirty bitmap, rsync of the
 * raw file. Times are of whole commands; bytes read are what read() and its kin gave to the commands of the side that sends, of
 * rsync to both sides, as both are one command here.
 */

import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { randomFillSync } from 'node:crypto';
import { CHUNK_BYTES } from '../../src/base/units.ts';

const MIB = 2 ** 20;
const PATTERN = 0xab;

export interface Means {
  readonly means: string;
  readonly bytesRead: number;
  readonly bytesSent: number;
  readonly seconds: number;
}

/** What a command printed, and how many bytes it and those that it started have read. */
interface Ran {
  readonly out: string;
  readonly bytesRead: number;
  readonly seconds: number;
}

export class Comparison {
  readonly #directory: string;
  readonly #main: string;
  readonly #bytes: number;
  readonly #offsets: number[];

  /** `main` is the program of Coppice, `part` the share of chunks that change. */
  constructor(directory: string, main: string, bytes: number, part: number) {
    [this.#directory, this.#main, this.#bytes] = [directory, main, bytes];
    const chunks = bytes / CHUNK_BYTES;
    const changed = new Set<number>();
    while (changed.size < chunks * part) changed.add(Math.floor(Math.random() * chunks));
    this.#offsets = [...changed].sort((a, b) => a - b).map((chunk) => chunk * CHUNK_BYTES);
  }

  get changedBytes(): number {
    return this.#offsets.length * CHUNK_BYTES;
  }

  async *run(): AsyncGenerator<Means> {
    const [before, after] = [this.#at('before.raw'), this.#at('after.raw')];
    this.#makeImage(before);
    fs.copyFileSync(before, after);
    this.#change(after);
    yield await this.#coppice(before, after);
    yield await this.#qemu(before, after);
    yield await this.#rsync(before, after);
  }

  #at(name: string): string {
    return path.join(this.#directory, name);
  }

  #makeImage(file: string): void {
    const descriptor = fs.openSync(file, 'w');
    for (let at = 0; at < this.#bytes; at += MIB)
      fs.writeSync(descriptor, randomFillSync(Buffer.allocUnsafe(MIB)));
    fs.closeSync(descriptor);
  }

  #change(file: string): void {
    const descriptor = fs.openSync(file, 'r+');
    const chunk = Buffer.alloc(CHUNK_BYTES, PATTERN);
    for (const offset of this.#offsets) fs.writeSync(descriptor, chunk, 0, CHUNK_BYTES, offset);
    fs.closeSync(descriptor);
  }

  async #coppice(before: string, after: string): Promise<Means> {
    const [from, to] = [this.#at('from'), this.#at('to')];
    const coppice = (store: string, words: string): string =>
      `${process.execPath} ${this.#main} --store ${store} ${words}`;
    for (const store of [from, to]) await ran(coppice(store, 'init'));
    await ran(coppice(from, `import disk ${before}`));
    await ran(coppice(from, 'snapshot disk@one'));
    await ran(`${coppice(from, 'send disk@one')} | ${coppice(to, 'receive disk')}`);
    // Only what changed is written, as a guest would.
    const { Store } = await import('../../src/volume/store.ts');
    const store = await Store.open(from);
    const device = store.device('disk');
    for (const offset of this.#offsets)
      await new Promise<void>((resolve, reject) => {
        const complete = (error: Error | undefined): void => (error ? reject(error) : resolve());
        const slices = [Buffer.alloc(CHUNK_BYTES, PATTERN)];
        device.write({ offset, lengthBytes: CHUNK_BYTES, slices, forceUnitAccess: false, complete });
      });
    device.release();
    await store.snapshot(['disk@two']);
    await store.close();
    const stream = this.#at('stream');
    const { bytesRead, seconds: sending } = await ran(
      `${coppice(from, 'send disk@two --from @one')} > ${stream}`,
    );
    const { seconds: receiving } = await ran(`${coppice(to, 'receive disk')} < ${stream}`);
    await ran(`${coppice(to, 'export disk -')} | cmp - ${after}`);
    const bytesSent = fs.statSync(stream).size;
    for (const made of [from, to, stream]) fs.rmSync(made, { recursive: true });
    return {
      means: 'coppice send --from, receive',
      bytesRead,
      bytesSent,
      seconds: sending + receiving,
    };
  }

  /** What a backup by libvirt does, without a guest: `blockdev-backup` of what a bitmap has, onto the copy. It copies 64 KiB at a time. */
  async #qemu(before: string, after: string): Promise<Means> {
    const [image, copy] = [this.#at('image.qcow2'), this.#at('copy.raw')];
    await ran(`qemu-img convert -f raw -O qcow2 ${before} ${image}`);
    await ran(`qemu-img bitmap --add ${image} changes`);
    const writes = this.#offsets.map((offset) => `write -q -P ${PATTERN} ${offset} ${CHUNK_BYTES}\n`);
    fs.writeFileSync(this.#at('writes'), writes.join(''));
    await ran(`qemu-io -f qcow2 ${image} < ${this.#at('writes')}`);
    fs.copyFileSync(before, copy);
    const startedAt = performance.now();
    const { bytesRead, bytesSent } = await backUp(image, copy);
    const seconds = (performance.now() - startedAt) / 1000;
    await ran(`cmp ${copy} ${after}`);
    for (const made of [image, copy]) fs.rmSync(made);
    return { means: 'QEMU incremental backup', bytesRead, bytesSent, seconds };
  }

  async #rsync(before: string, after: string): Promise<Means> {
    const { out, bytesRead, seconds } = await ran(
      `rsync --inplace --no-whole-file --ignore-times --stats ${after} ${before}`,
    );
    await ran(`cmp ${before} ${after}`);
    const count = (what: string): number =>
      Number(new RegExp(`${what}: ([0-9,]+)`).exec(out)![1]!.replaceAll(',', ''));
    const bytesSent = count('Total bytes sent') + count('Total bytes received');
    return { means: 'rsync --inplace', bytesRead, bytesSent, seconds };
  }
}

/** Runs a line of the shell. @throws Error if it fails */
async function ran(line: string): Promise<Ran> {
  // The kernel counts with a process what those that it waited for have read.
  const script = `set -eo pipefail; ${line}; cat /proc/$$/io >&2`;
  const startedAt = performance.now();
  const child = spawn('bash', ['-c', script], { stdio: ['ignore', 'pipe', 'pipe'] });
  let [out, err] = ['', ''];
  child.stdout.on('data', (text: Buffer) => (out += text.toString()));
  child.stderr.on('data', (text: Buffer) => (err += text.toString()));
  const code = await new Promise((resolve) => child.once('close', resolve));
  if (code !== 0) throw new Error(`${line} ended with ${String(code)}: ${err}`);
  return { out, bytesRead: readIn(err), seconds: (performance.now() - startedAt) / 1000 };
}

function readIn(io: string): number {
  return Number(/rchar: (\d+)/.exec(io)![1]);
}

async function backUp(image: string, copy: string): Promise<{ bytesRead: number; bytesSent: number }> {
  const daemon = spawn(
    'qemu-storage-daemon',
    [
      '--chardev',
      'stdio,id=qmp',
      '--monitor',
      'chardev=qmp,mode=control',
      '--blockdev',
      `driver=qcow2,node-name=disk,file.driver=file,file.filename=${image}`,
      '--blockdev',
      `driver=raw,node-name=copy,file.driver=file,file.filename=${copy}`,
    ],
    { stdio: ['pipe', 'pipe', 'inherit'] },
  );
  const ended = new Promise((resolve) => daemon.once('close', resolve));
  const ask = (execute: string, fields: object = {}): void =>
    void daemon.stdin.write(`${JSON.stringify({ execute, arguments: fields })}\n`);
  ask('qmp_capabilities');
  const job = { 'job-id': 'backup', device: 'disk', target: 'copy', sync: 'incremental', bitmap: 'changes' };
  ask('blockdev-backup', job);
  let found = { bytesRead: 0, bytesSent: -1 };
  for await (const line of createInterface({ input: daemon.stdout })) {
    const { event, data, error } = JSON.parse(line) as {
      event?: string;
      data?: { offset: number; error?: string };
      error?: { desc: string };
    };
    const failure = error?.desc ?? data?.error;
    if (failure !== undefined) throw new Error(`qemu-storage-daemon: ${failure}`);
    if (event !== 'BLOCK_JOB_COMPLETED') continue;
    found = {
      bytesRead: readIn(fs.readFileSync(`/proc/${daemon.pid}/io`, 'utf8')),
      bytesSent: data!.offset,
    };
    ask('quit');
  }
  await ended;
  return found;
}
