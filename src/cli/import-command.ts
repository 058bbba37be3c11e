/**
 * `coppice import`: a raw image becomes the content of a volume.
 *
 * Invariants:
 * - Everything that can be known to be wrong is refused before anything changes: the options, the image's size and its
 *   first piece.
 * - A volume that exists is zeroed first, by one entry of the log, so that a new and an old one end the same: what
 *   the image does not cover, and its holes, read as zeros, and half an import is a part of the image and zeros.
 * - When it fails half-way, the message says what the volume holds now.
 */

import type { Readable } from 'node:stream';
import { hasCode, StoreError } from '../base/errors.ts';
import { roundUp, SECTOR_BYTES } from '../base/units.ts';
import type { Disk, Door } from '../server/door.ts';
import type { VersionSummary } from '../volume/summary.ts';
import { Interrupted } from './exit-codes.ts';
import { type ImageSource, openImage, type Piece } from './image-source.ts';
import { InFlight } from '../base/in-flight.ts';
import type { Output } from './output.ts';
import { Progress } from './progress.ts';
import { formatSize } from './size.ts';
import { nonZeroRuns } from './zero-blocks.ts';

/** Pieces that are being written. */
const PIECES_IN_FLIGHT_MAX = 4;

export interface ImportOptions {
  readonly volume: string;
  /** `-` for standard input. */
  readonly file: string;
  readonly sizeBytes: number | undefined;
  readonly force: boolean;
}

export async function importImage(
  door: Door,
  output: Output,
  options: ImportOptions,
  signal: AbortSignal,
  stdin: Readable = process.stdin,
): Promise<void> {
  const source = await openImage(options.file, stdin, signal);
  try {
    const existing = await find(door, options.volume);
    const volumeBytes = planSize(options, source, existing);
    const pieces = source.pieces();
    const first = await pieces.next();
    if (first.done === true)
      throw new StoreError('INVALID_ARGUMENT', `${source.title} is empty: there is no image`);
    checkFits(first.value, volumeBytes, source, options.volume);
    signal.throwIfAborted();
    if (existing === undefined) await door.create(options.volume, volumeBytes);
    const written = await fill(
      door,
      options.volume,
      existing !== undefined,
      source,
      first.value,
      pieces,
      signal,
    );
    const volume = await door.show(options.volume);
    output.print({ ...volume, ...written }, () => {
      const verb = existing === undefined ? 'imported' : 'overwrote';
      const stored = `${formatSize(written.writtenBytes)} stored`;
      return `${verb} volume ${volume.name}: ${formatSize(written.imageBytes)} from ${source.title}, ${stored}\n`;
    });
  } finally {
    await source.close();
  }
}

async function find(door: Door, name: string): Promise<VersionSummary | undefined> {
  try {
    return await door.show(name);
  } catch (error) {
    if (hasCode(error, 'NOT_FOUND')) return undefined;
    throw error;
  }
}

/** The size that the volume has or will have. @throws INVALID_ARGUMENT, ALREADY_EXISTS */
function planSize(options: ImportOptions, source: ImageSource, existing: VersionSummary | undefined): number {
  const { volume, sizeBytes, force } = options;
  if (existing?.kind === 'snapshot') {
    throw new StoreError(
      'INVALID_ARGUMENT',
      `'${volume}' is a snapshot and never changes; import into a volume`,
    );
  }
  if (existing !== undefined && !force) {
    throw new StoreError('ALREADY_EXISTS', `volume '${volume}' exists; give --force to overwrite all of it`);
  }
  if (existing !== undefined && sizeBytes !== undefined && sizeBytes !== existing.size) {
    throw new StoreError(
      'INVALID_ARGUMENT',
      `volume '${volume}' has ${existing.size} bytes and --size says ${sizeBytes}; leave --size out to overwrite it`,
    );
  }
  const imageBytes = source.sizeBytes;
  if (existing === undefined && sizeBytes === undefined && imageBytes === undefined) {
    throw new StoreError('INVALID_ARGUMENT', `${source.title} does not tell how long it is; give --size`);
  }
  const volumeBytes = existing?.size ?? sizeBytes ?? roundUp(imageBytes!, SECTOR_BYTES);
  if (imageBytes !== undefined && imageBytes > volumeBytes) {
    throw new StoreError(
      'INVALID_ARGUMENT',
      `${source.title} has ${imageBytes} bytes and volume '${volume}' only ${volumeBytes}; nothing was changed`,
    );
  }
  return volumeBytes;
}

function checkFits(piece: Piece, volumeBytes: number, source: ImageSource, volume: string): void {
  if (piece.offset + piece.bytes.length <= volumeBytes) return;
  const problem = `${source.title} goes on behind the ${volumeBytes} bytes of volume '${volume}'`;
  const state = piece.offset === 0 ? '; nothing was changed' : '';
  throw new StoreError('INVALID_ARGUMENT', `${problem}${state}`);
}

interface Written {
  readonly imageBytes: number;
  readonly writtenBytes: number;
}

async function fill(
  door: Door,
  volume: string,
  isOld: boolean,
  source: ImageSource,
  first: Piece,
  rest: AsyncGenerator<Piece>,
  signal: AbortSignal,
): Promise<Written> {
  const progress = new Progress(`import ${volume}`, source.sizeBytes);
  try {
    const disk = await door.disk(volume);
    try {
      if (isOld) await disk.zero(0, disk.sizeBytes);
      const written = await copy(disk, source, first, rest, progress, signal);
      await disk.flush();
      return written;
    } finally {
      disk.release();
    }
  } catch (error) {
    throw withStateLeft(error, volume);
  } finally {
    progress.end();
  }
}

async function copy(
  disk: Disk,
  source: ImageSource,
  first: Piece,
  rest: AsyncGenerator<Piece>,
  progress: Progress,
  signal: AbortSignal,
): Promise<Written> {
  const writes = new InFlight(PIECES_IN_FLIGHT_MAX);
  let imageBytes = 0;
  let writtenBytes = 0;
  try {
    for (let next: IteratorResult<Piece> = { value: first }; next.done !== true; next = await rest.next()) {
      signal.throwIfAborted();
      const piece = next.value;
      checkFits(piece, disk.sizeBytes, source, disk.name);
      await writes.add(async () => {
        for (const { start, end } of nonZeroRuns(piece.bytes)) {
          await disk.write(piece.offset + start, [piece.bytes.subarray(start, end)]);
          writtenBytes += end - start;
        }
        piece.free();
      });
      imageBytes += piece.bytes.length;
      progress.add(piece.bytes.length);
    }
  } finally {
    // Also after a failure: nothing may still be writing when the command says what the volume holds.
    await writes.settle();
  }
  return { imageBytes, writtenBytes };
}

/** The error with what it left behind. */
function withStateLeft(error: unknown, volume: string): unknown {
  const state = `volume '${volume}' now holds a part of the image and zeros; import it again with --force`;
  if (error instanceof StoreError) return new StoreError(error.code, `${error.message}; ${state}`, error);
  if (error instanceof Interrupted) return new Interrupted(error.signalName, `${error.message}; ${state}`);
  return error;
}
