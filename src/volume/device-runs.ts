/** Ranges of a device that are read together, and a device as a disk that is sent (changes-source.ts). */

import type { Run, SentDisk } from './changes-source.ts';
import type { BlockDevice } from './device.ts';

/** The most runs that one question about allocation is answered with. */
const ALLOCATION_RUNS_MAX = 4096;

/** The bytes of the ranges in order, one behind the other. Requires: they lie in the device. @throws IO, CORRUPTION, CLOSED */
export async function readRuns(device: BlockDevice, runs: readonly Run[]): Promise<Buffer> {
  let bytes = 0;
  for (const [, lengthBytes] of runs) bytes += lengthBytes;
  const target = Buffer.allocUnsafe(bytes);
  const reads: Promise<void>[] = [];
  let start = 0;
  for (const [offset, lengthBytes] of runs) {
    if (!device.tryRead(target, start, offset, lengthBytes))
      reads.push(device.read(target, start, offset, lengthBytes));
    start += lengthBytes;
  }
  await Promise.all(reads);
  return target;
}

export function sentDisk(device: BlockDevice): SentDisk {
  return {
    sizeBytes: device.sizeBytes,
    readRuns: (runs) => readRuns(device, runs),
    allocation: (offset, lengthBytes) => device.allocation(offset, lengthBytes, ALLOCATION_RUNS_MAX),
  };
}
