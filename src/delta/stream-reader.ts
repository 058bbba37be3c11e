/**
 * Reads a stream as its bytes come, whoever sent it. Pure.
 *
 * Invariants: what is answered has been verified (frame-reader.ts); extents are in order over all frames, and in the target.
 */

import { Changes } from './changes.ts';
import { CHANGES_FRAME, damaged, decodeTotals, HEAD_FRAME, SIGNATURE, type StreamTotals } from './format.ts';
import { FrameReader, type VerifiedFrame } from './frame-reader.ts';
import { decodeHead, type StreamHead } from './head.ts';

export type Frame =
  | { readonly kind: 'head'; readonly head: StreamHead }
  | { readonly kind: 'changes'; readonly changes: Changes; readonly codec: number }
  | { readonly kind: 'end'; readonly totals: StreamTotals };

export class StreamReader {
  readonly #frames = new FrameReader({ signature: SIGNATURE, kind: CHANGES_FRAME, maker: 'coppice send' });
  readonly #totals: StreamTotals = { frames: 0, dataBytes: 0, zeroBytes: 0 };
  #head: StreamHead | undefined;
  /** Where the last extent ends. */
  #position = 0;

  /** Frames that are whole with these bytes. @throws CORRUPTION, UNSUPPORTED_FORMAT */
  *push(bytes: Buffer): Generator<Frame> {
    for (const frame of this.#frames.push(bytes)) yield this.#understood(frame);
  }

  /** No more bytes come. @throws CORRUPTION if the stream has not come to its end */
  close(): void {
    this.#frames.close();
  }

  #understood({ kind, codec, body }: VerifiedFrame): Frame {
    if (kind === HEAD_FRAME) {
      this.#head = decodeHead(body);
      this.#position = this.#head.position;
      return { kind: 'head', head: this.#head };
    }
    if (kind === CHANGES_FRAME) return { kind: 'changes', changes: this.#changes(body), codec };
    const totals = decodeTotals(body);
    const { frames, dataBytes, zeroBytes } = this.#totals;
    if (totals.frames !== frames || totals.dataBytes !== dataBytes || totals.zeroBytes !== zeroBytes)
      throw damaged('its end tells of other changes than came');
    return { kind: 'end', totals };
  }

  #changes(body: Buffer): Changes {
    const changes = new Changes(body);
    if (changes.offset(0) < this.#position) throw damaged('extents of two frames are not in order');
    if (changes.end > this.#head!.target.size)
      throw damaged('it changes what lies behind the end of the disk');
    this.#position = changes.end;
    this.#totals.frames += 1;
    this.#totals.dataBytes += changes.dataBytes;
    this.#totals.zeroBytes += changes.zeroBytes;
    return changes;
  }
}
