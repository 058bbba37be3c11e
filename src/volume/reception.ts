/**
 * The frames of a verified stream on their way into a store: a bounded number under way, the position kept now and then.
 *
 * Invariant: nothing is published before all frames were taken and have succeeded; a position is kept only when all
 * frames up to it have.
 */

import { InFlight } from '../base/in-flight.ts';
import { encodeToken, type StreamHead } from '../delta/head.ts';
import type { Frame } from '../delta/stream-reader.ts';
import type { ReceiveBegun } from './receives.ts';

const FRAMES_IN_FLIGHT_MAX = 8;
/** Bytes of data, and time, behind which the position is kept: that waits for the disk. */
const KEPT_BYTES = 64 * 2 ** 20;
const KEPT_MS = 1000;

/** How a store takes a version in: the store's own `Receives`, or a door's. */
export interface ReceiveSteps {
  begin(head: StreamHead, name: string): Promise<ReceiveBegun>;
  apply(session: string, body: Buffer): Promise<void>;
  advance(session: string, position: number): Promise<void>;
  publish(session: string): Promise<string>;
}

export interface Received {
  /** Full name. */
  readonly name: string;
  /** False: the store had it already. */
  readonly isNew: boolean;
  readonly dataBytes: number;
}

export class Reception {
  readonly #steps: ReceiveSteps;
  readonly #name: string;
  readonly #changes = new InFlight(FRAMES_IN_FLIGHT_MAX);
  #head: StreamHead | undefined;
  #session: string | undefined;
  /** The store has the version already, under this name. */
  #there: string | undefined;
  /** Frames that have been handed over, in order, behind the last one of which all before it have succeeded too. */
  readonly #underWay: { readonly end: number; isDone: boolean }[] = [];
  /** Up to where frames have succeeded, and up to where the store keeps that. */
  #position = 0;
  #keptPosition = 0;
  #keptAt = performance.now();
  #dataBytes = 0;
  #unkeptBytes = 0;

  /** `name` is VOLUME or VOLUME@NAME. */
  constructor(steps: ReceiveSteps, name: string) {
    this.#steps = steps;
    this.#name = name;
  }

  /** There is something that could be gone on with. */
  get isUnderWay(): boolean {
    return this.#session !== undefined;
  }

  /** Bytes of the disk up to which the store keeps what has come. */
  get keptPosition(): number {
    return this.#keptPosition;
  }

  /** Of the disk that is received. Requires: it has begun. */
  get sizeBytes(): number {
    return this.#head!.target.size;
  }

  /** For `send --resume`. Requires: it has begun. */
  get token(): string {
    const { target, base } = this.#head!;
    return encodeToken(target.uuid, base?.uuid ?? null, this.#keptPosition);
  }

  /** Takes the next frame; answers how many bytes of data it brought into the store. @throws as `Receives` */
  async take(frame: Frame): Promise<number> {
    if (frame.kind === 'head') await this.begin(frame.head);
    if (frame.kind !== 'changes' || this.#session === undefined) return 0;
    const { changes } = frame;
    const session = this.#session;
    await this.#changes.add(async () => {
      const place = { end: changes.end, isDone: false };
      this.#underWay.push(place);
      await this.#steps.apply(session, changes.body);
      place.isDone = true;
      while (this.#underWay[0]?.isDone === true)
        this.#position = Math.max(this.#position, this.#underWay.shift()!.end);
    });
    this.#dataBytes += changes.dataBytes;
    this.#unkeptBytes += changes.dataBytes;
    const isDue = this.#unkeptBytes >= KEPT_BYTES || performance.now() - this.#keptAt >= KEPT_MS;
    if (isDue) await this.keepPosition();
    return changes.dataBytes;
  }

  async begin(head: StreamHead): Promise<ReceiveBegun> {
    this.#head = head;
    const begun = await this.#steps.begin(head, this.#name);
    if (begun.state === 'there') {
      this.#there = begun.name;
      return begun;
    }
    this.#session = begun.session;
    this.#keptPosition = begun.position;
    this.#position = begun.position;
    return begun;
  }

  /** Requires: all frames have been taken. */
  async finish(): Promise<Received> {
    if (this.#session === undefined) return { name: this.#there!, isNew: false, dataBytes: 0 };
    await this.#changes.settle();
    const name = await this.#steps.publish(this.#session);
    return { name, isNew: true, dataBytes: this.#dataBytes };
  }

  /**
   * The store keeps all that has come before anything failed, so that the stream can go on there. Requires: it is under way.
   * @throws what has failed
   */
  async keepPosition(): Promise<void> {
    const settled = this.#changes.settle();
    await settled.catch(() => undefined);
    const position = this.#position;
    await this.#steps.advance(this.#session!, position);
    this.#keptPosition = position;
    this.#keptAt = performance.now();
    this.#unkeptBytes = 0;
    await settled;
  }
}
