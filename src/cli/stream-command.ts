/** `coppice stream`: what is in a file of `coppice send`, whether it is whole, and one of two that follow each other. */

import type { Writable } from 'node:stream';
import { hasCode, StoreError } from '../base/errors.ts';
import { composedBodies, composedHead } from '../delta/compose.ts';
import { CODEC_RAW, damaged } from '../delta/format.ts';
import type { StreamHead } from '../delta/head.ts';
import { type Frame, StreamReader } from '../delta/stream-reader.ts';
import { packedBody, rawBody, StreamWriter } from '../delta/stream-writer.ts';
import { fileBytes } from './input-file.ts';
import type { Output } from './output.ts';
import { formatSize } from './size.ts';
import { writeAll } from './standard-output.ts';
import { drawFields } from './table.ts';

/** The frames of a file, to its end. @throws NOT_FOUND, INVALID_ARGUMENT, CORRUPTION, UNSUPPORTED_FORMAT, IO */
async function* framesOf(file: string): AsyncGenerator<Frame> {
  const reader = new StreamReader();
  try {
    for await (const piece of fileBytes(file)) yield* reader.push(piece);
    reader.close();
  } catch (error) {
    const isOfStream = hasCode(error, 'CORRUPTION') || hasCode(error, 'UNSUPPORTED_FORMAT');
    if (!isOfStream || file === '-') throw error;
    const { code, message } = error as StoreError;
    throw new StoreError(code, `'${file}': ${message}`, error);
  }
}

/** Tells what a stream has, read to its end: so it is whole, too. */
export async function inspectStream(output: Output, file: string): Promise<void> {
  let head: StreamHead | undefined;
  let packedFrames = 0;
  let totals = { frames: 0, dataBytes: 0, zeroBytes: 0 };
  for await (const frame of framesOf(file)) {
    if (frame.kind === 'head') head = frame.head;
    else if (frame.kind === 'end') totals = frame.totals;
    else if (frame.codec !== CODEC_RAW) packedFrames += 1;
  }
  const { store, volume, target, base, position } = head!;
  const named = ({ name, uuid, size }: StreamHead['target']): string =>
    `${name} (${uuid}), ${formatSize(size)}`;
  const created = new Date(target.created).toISOString();
  // Times are written alike in all JSON that is printed; in the stream itself it is a number.
  output.print({ ...head, target: { ...target, created }, ...totals, packedFrames }, () =>
    drawFields([
      ['volume', `${volume.name} (${volume.uuid})`],
      ['target', named(target)],
      ['base', base === null ? 'none: all of it' : named({ ...base, created: 0 })],
      ['made', created],
      ['sent by', store],
      ...(position > 0 ? [['goes on at', formatSize(position)] as const] : []),
      ['frames', `${totals.frames}, ${packedFrames} of them packed`],
      ['data', formatSize(totals.dataBytes)],
      ['zeros', formatSize(totals.zeroBytes)],
    ]),
  );
}

export async function verifyStream(output: Output, file: string): Promise<void> {
  let frames = 0;
  for await (const frame of framesOf(file)) if (frame.kind === 'changes') frames += 1;
  output.print({ file, frames, whole: true }, () => `${file} is whole: ${frames} frames of changes\n`);
}

export async function composeStreams(
  files: readonly [string, string],
  isCompressed: boolean,
  stream: Writable,
): Promise<void> {
  const frames = [framesOf(files[0]), framesOf(files[1])] as const;
  const heads = [await headFrom(frames[0]), await headFrom(frames[1])] as const;
  const writer = new StreamWriter();
  const write = (slices: Buffer[]): Promise<void> => writeAll(stream, slices, 'the stream is not complete');
  await write(writer.begin(composedHead(...heads)));
  for await (const body of composedBodies(heads, frames))
    await write(writer.changes(isCompressed ? await packedBody(body) : rawBody(body)));
  await write(writer.end());
}

async function headFrom(frames: AsyncGenerator<Frame>): Promise<StreamHead> {
  const next = await frames.next();
  if (next.done !== true && next.value.kind === 'head') return next.value.head;
  throw damaged('it has no head');
}
