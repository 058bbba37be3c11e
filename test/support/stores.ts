/** Stores in scratch directories, and promises over the callback of a write. */

import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { BlockDevice, Run } from '../../src/volume/device.ts';
import type { Store } from '../../src/volume/store.ts';

export function scratchDirectory(): string {
  return fs.mkdtempSync(path.join(os.tmpdir(), 'coppice-test-'));
}

export function write(
  device: BlockDevice,
  offset: number,
  bytes: Buffer,
  forceUnitAccess = false,
): Promise<void> {
  return new Promise((resolve, reject) => {
    device.write({
      offset,
      lengthBytes: bytes.length,
      slices: [bytes],
      forceUnitAccess,
      complete: (error) => (error ? reject(error) : resolve()),
    });
  });
}

/** Reads by the fast way where it goes, else by the other. */
export async function read(device: BlockDevice, offset: number, lengthBytes: number): Promise<Buffer> {
  const target = Buffer.alloc(lengthBytes, 0xee);
  if (!device.tryRead(target, 0, offset, lengthBytes)) await device.read(target, 0, offset, lengthBytes);
  return target;
}

/** For devices of tests: BlockDevice.readRuns by `read`. */
export async function readEach(
  device: Pick<BlockDevice, 'read'>,
  target: Buffer,
  runs: readonly Run[],
): Promise<void> {
  let start = 0;
  for (const [offset, lengthBytes] of runs) {
    await device.read(target, start, offset, lengthBytes);
    start += lengthBytes;
  }
}

/** Codes of the damage that a check finds. */
export async function damageIn(
  findings: AsyncGenerator<{ severity: string; code: string; message: string }>,
): Promise<string[]> {
  const found: string[] = [];
  for await (const finding of findings)
    if (finding.severity === 'damage') found.push(`${finding.code}: ${finding.message}`);
  return found;
}

export function onStore<T>(store: Store, name: string, use: (device: BlockDevice) => Promise<T>): Promise<T> {
  const device = store.device(name);
  return use(device).finally(() => device.release());
}
