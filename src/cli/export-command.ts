/**
 * `coppice export`: the bytes of a volume or snapshot as a raw image, in a sparse file or on standard output.
 *
 * Invariants: the file is exactly as long as the disk, and appears whole or not at all (see partial-file.ts); it is
 * never a file of the store. With `--damaged`, what cannot be read is zeros in the image, every such range is told on
 * standard error, and the exit code is that of damage. A volume that is being written meanwhile gives no single moment: a snapshot does.
 */

import fs from 'node:fs';
import path from 'node:path';
import type { Writable } from 'node:stream';
import { BufferPool } from '../base/buffer-pool.ts';
import { StoreError } from '../base/errors.ts';
import type { Disk, Door } from '../server/door.ts';
import { DamagedDisk } from './damaged-disk.ts';
import { diskRuns, type DiskRun, splitRuns } from './disk-runs.ts';
import { PIECE_BYTES } from './image-source.ts';
import { EXIT, type ExitCode } from './exit-codes.ts';
import { InFlight, inOrder } from '../base/in-flight.ts';
import type { Output } from './output.ts';
import { PartialFile } from './partial-file.ts';
import { Progress } from './progress.ts';
import { formatSize } from './size.ts';
import { writeAll } from './standard-output.ts';
import { nonZeroRuns } from './zero-blocks.ts';

const READS_IN_FLIGHT_MAX = 8;
const ZEROS = Buffer.alloc(PIECE_BYTES);

/** Ranges that are told one by one. */
const RANGES_TOLD_MAX = 50;

export async function exportToFile(
  door: Door,
  output: Output,
  request: {
    readonly name: string;
    readonly file: string;
    readonly storeDirectory: string;
    /** Go on where bytes cannot be read. */
    readonly damaged?: boolean;
  },
  signal: AbortSignal,
): Promise<ExitCode> {
  const disk = await openDisk(door, request.name, request.damaged);
  try {
    await checkOutside(request.file, request.storeDirectory);
    const file = await PartialFile.create(request.file);
    try {
      const writtenBytes = await fillFile(disk, file, signal);
      signal.throwIfAborted();
      await file.commit(disk.sizeBytes);
      const unreadable = disk instanceof DamagedDisk ? { unreadable: disk.lost } : {};
      const result = {
        name: disk.name,
        file: file.target,
        size: disk.sizeBytes,
        writtenBytes,
        ...unreadable,
      };
      output.print(result, () => {
        const sizes = `${formatSize(disk.sizeBytes)}, ${formatSize(writtenBytes)} of it not holes`;
        return `exported ${disk.name} to ${request.file}: ${sizes}\n`;
      });
      return await tellLost(door, disk);
    } finally {
      await file.close();
    }
  } finally {
    disk.release();
  }
}

/** Writes every byte to `stream`. A reader that goes away early is an error: it did not get the image. @throws IO */
export async function exportToStream(
  door: Door,
  name: string,
  stream: Writable,
  damaged = false,
): Promise<ExitCode> {
  const disk = await openDisk(door, name, damaged);
  const progress = new Progress(`export ${disk.name}`, disk.sizeBytes);
  try {
    const pieces = inOrder(
      splitRuns(diskRuns(disk)),
      async ({ offset, lengthBytes, allocated }: DiskRun) =>
        allocated ? await disk.read(offset, lengthBytes) : ZEROS.subarray(0, lengthBytes),
      READS_IN_FLIGHT_MAX,
    );
    for await (const piece of pieces) {
      await writeAll(stream, [piece], 'the image is not complete');
      progress.add(piece.length);
    }
  } finally {
    progress.end();
    disk.release();
  }
  return await tellLost(door, disk);
}

async function openDisk(door: Door, name: string, damaged = false): Promise<Disk> {
  const disk = await door.disk(name);
  return damaged ? new DamagedDisk(disk) : disk;
}

/** Says on standard error what the image lacks, and in the exit code whether it may be another one than it was. */
async function tellLost(door: Door, disk: Disk): Promise<ExitCode> {
  if (!(disk instanceof DamagedDisk)) return EXIT.ok;
  const { lost } = disk;
  const mayBeOld = (await door.status({ atCheckpoint: true })).damage.some(
    ({ code }) => code === 'OLD_DATA_POSSIBLE',
  );
  if (lost.length === 0) return mayBeOld ? EXIT.findings : EXIT.ok;
  let bytes = 0;
  for (const { length } of lost) bytes += length;
  for (const { offset, length } of lost.slice(0, RANGES_TOLD_MAX))
    process.stderr.write(
      `coppice: ${length} bytes at ${offset} cannot be read, and are zeros in the image\n`,
    );
  const more = lost.length > RANGES_TOLD_MAX ? `, in ${lost.length - RANGES_TOLD_MAX} more places` : '';
  process.stderr.write(`coppice: the image lacks ${formatSize(bytes)} of ${disk.name}${more}\n`);
  return EXIT.findings;
}

async function fillFile(disk: Disk, file: PartialFile, signal: AbortSignal): Promise<number> {
  const progress = new Progress(`export ${disk.name}`, disk.sizeBytes);
  const copies = new InFlight(READS_IN_FLIGHT_MAX);
  const pool = new BufferPool(PIECE_BYTES, READS_IN_FLIGHT_MAX);
  let writtenBytes = 0;
  try {
    for await (const { offset, lengthBytes } of splitRuns(storedRuns(disk, progress))) {
      signal.throwIfAborted();
      await copies.add(async () => {
        const buffer = pool.take();
        const bytes = await disk.read(offset, lengthBytes, buffer);
        for (const { start, end } of nonZeroRuns(bytes)) {
          await file.write(bytes.subarray(start, end), offset + start);
          writtenBytes += end - start;
        }
        pool.give(buffer);
        progress.add(lengthBytes);
      });
    }
  } finally {
    // Also after a failure: nothing may write to a file that is closed.
    await copies.settle();
    progress.end();
  }
  return writtenBytes;
}

/** The runs of a disk that a sparse file needs. */
async function* storedRuns(disk: Disk, progress: Progress): AsyncGenerator<DiskRun> {
  for await (const run of diskRuns(disk)) {
    if (run.allocated) yield run;
    else progress.add(run.lengthBytes);
  }
}

/** @throws INVALID_ARGUMENT if `file` would lie among the files of the store, where a rename could replace one. */
async function checkOutside(file: string, storeDirectory: string): Promise<void> {
  const real = async (name: string): Promise<string> =>
    await fs.promises.realpath(name).catch(() => path.resolve(name));
  const store = await real(storeDirectory);
  const target = path.join(await real(path.dirname(path.resolve(file))), path.basename(file));
  if (!`${target}/`.startsWith(`${store}/`)) return;
  throw new StoreError(
    'INVALID_ARGUMENT',
    `'${file}' lies in the directory of the store; export to another place`,
  );
}
