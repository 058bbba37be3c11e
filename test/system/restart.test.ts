/** A server that is stopped and started again under its clients, and volumes that change their size meanwhile. */

import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Cleanup, Program, tool } from '../support/programs.ts';
import { ServedStore } from '../support/served-store.ts';
import { requireTools } from '../support/tools.ts';

const MIB = 2 ** 20;
const TEST_MS = 120_000;
const PROMPT = 'qemu-io> ';

const cleanup = new Cleanup();
let store: ServedStore;

beforeEach(async () => {
  store = await ServedStore.make(cleanup);
  await store.coppice('create', 'disk', '--size', '8M');
  await store.start();
}, 60_000);
afterEach(() => cleanup.run(), 60_000);

/** qemu-io with a disk that it looks for again for half a minute when the server is gone. */
class PatientClient {
  readonly program: Program;
  #asked = 0;

  constructor(path: string) {
    const server = `file.server.type=unix,file.server.path=${path}`;
    const disk = `driver=raw,file.driver=nbd,${server},file.export=disk,file.reconnect-delay=30`;
    this.program = new Program('stdbuf', ['-oL', 'qemu-io', '--image-opts', disk]);
    cleanup.add(() => this.program.kill());
  }

  /** Types a command in; what it says of it is there when the next one can be typed. */
  async begin(command: string): Promise<void> {
    await this.#prompts(++this.#asked);
    this.program.send(`${command}\n`);
  }

  async ask(command: string): Promise<string> {
    await this.begin(command);
    const { length } = this.program.output;
    await this.#prompts(this.#asked + 1);
    return this.program.output.slice(length);
  }

  async #prompts(count: number): Promise<void> {
    await this.program.until(() => this.program.output.split(PROMPT).length > count, 'prompt');
  }
}

describe.skipIf(!requireTools(['qemu-io', 'nbdinfo', 'stdbuf']))('a server that is started again', () => {
  it(
    'is found by a client that looks for it, with all that was answered, and what was asked meanwhile is done then',
    async () => {
      const client = new PatientClient(`${store.directory}/nbd.sock`);
      expect(await client.ask('write -P 5 0 64k')).toContain('wrote 65536');
      for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
        expect((await store.stop(signal)).tookMs).toBeLessThan(5000);
        await client.begin('write -P 6 64k 64k');
        await store.start();
        expect(await client.ask('read -P 6 64k 64k')).toContain('read 65536');
        expect(await client.ask('read -P 5 0 64k')).toContain('read 65536');
        await client.ask('flush');
      }
      expect(client.program.output.match(/wrote 65536/g)).toHaveLength(3);
      expect(client.program.output).not.toMatch(/fail|error/i);
    },
    TEST_MS,
  );

  it('is a stop of few seconds also for a client that never hangs up', async () => {
    const client = new PatientClient(`${store.directory}/nbd.sock`);
    await client.ask('read 0 4k');
    const ended = await store.stop();
    expect(ended.code).toBe(0);
    expect(ended.tookMs).toBeLessThan(5000);
    await store.start();
    expect(await client.ask('read 0 4k')).toContain('read 4096');
  });
});

describe.skipIf(!requireTools(['qemu-io', 'nbdinfo', 'stdbuf']))('a volume that is resized', () => {
  const sizeNow = async (): Promise<number> => Number(await tool('nbdinfo', ['--size', store.uri('disk')]));

  it(
    'keeps its size for who is connected, has the new one for who opens it then, and says what cannot be had',
    async () => {
      const client = new PatientClient(`${store.directory}/nbd.sock`);
      await client.ask('write -P 7 0 8M');
      await store.coppice('resize', 'disk', '16M');
      expect(await client.ask('length')).toContain('8 MiB');
      expect(await sizeNow()).toBe(16 * MIB);
      await store.stop();
      await store.start();
      // QEMU goes by the size that it opened the disk with.
      expect(await client.ask('read -P 7 0 8M')).toContain('read 8388608/8388608');
      expect(await client.ask('length')).toContain('8 MiB');
      const anew = new PatientClient(`${store.directory}/nbd.sock`);
      expect(await anew.ask('length')).toContain('16 MiB');
      expect(await anew.ask('read -P 0 8M 8M')).toContain('read 8388608/8388608');

      await store.coppice('resize', 'disk', '4M', '--shrink', '--force');
      expect(await sizeNow()).toBe(4 * MIB);
      expect(await client.ask('write -P 8 3M 3M')).toContain('No space left');
      expect(await client.ask('read -P 7 0 4M')).toContain('read 4194304/4194304');
    },
    TEST_MS,
  );
});
