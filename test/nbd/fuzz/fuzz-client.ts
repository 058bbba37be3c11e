/**
 * What a client sends, by the grammar of the protocol and against it: options and requests of any kind, with lengths that
 * lie, bits that flipped, messages cut short. `isHonest` says that none of that was done.
 */

import * as nbd from '../../../src/nbd/protocol.ts';
import type { Random } from '../../support/random.ts';
import {
  encodeContexts,
  encodeExtended,
  encodeInfo,
  encodeOption,
  encodeRequest,
  u32,
} from '../raw-client.ts';

const NOTHING = Buffer.alloc(0);
const ZEROS = Buffer.alloc(300_000);
const NAMES = ['disk', 'disk', 'disk', 'disk@a', '', 'huge', 'absent', 'disk@', 'x'.repeat(4097), '\0', 'ü'];
const QUERIES = [
  'base:allocation',
  'base:',
  'qemu:',
  'qemu:allocation-depth',
  'qemu:dirty-bitmap:a',
  'coppice:changed-since:b',
  'coppice:changed-since:disk@a',
  'coppice:',
  'nothing',
  'x-y:z',
  '',
];
const LENGTHS = [0, 1, 511, 512, 4095, 4096, 4097, 65535, 65536, 65537, 2 ** 20, 2 ** 25, 2 ** 25 + 1];
const LIES = [0, 1, 4, 5, 4096, 4097, 8192, 8193, 65536, 65537, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1];
const OFFSETS = [0, 0, 1, 4096, 100_000, 4 << 20, (4 << 20) - 1, 2 ** 32, 2 ** 45, 2 ** 53];
const OPTIONS = [2, 3, 3, 5, 6, 6, 7, 8, 8, 9, 9, 10, 10, 11, 12, 99];

export class FuzzClient {
  readonly #random: Random;
  /** All bytes that it sends, message by message. */
  readonly messages: Buffer[] = [];
  /** Cookies of requests that must be answered, if everything is understood as it was meant. */
  readonly cookies = new Set<number>();
  readonly clientFlags: number;
  isHonest = true;
  /** What was agreed on, as an honest client knows it. */
  #isExtended = false;
  #hasEnded = false;
  /** How many messages in a hundred are not what they should be. */
  readonly #liesPercent: number;

  constructor(random: Random) {
    this.#random = random;
    this.#liesPercent = random.pick([0, 0, 1, 3, 10]);
    this.clientFlags = random.chance(97) ? random.below(4) : random.next();
    if (this.clientFlags > 3) this.isHonest = false;
    this.messages.push(u32(this.clientFlags));
    for (let count = random.below(7); count > 0 && !this.#hasEnded; count--) this.#option();
    if (!this.#hasEnded) this.#go();
    for (let count = random.below(random.pick([3, 30, 120])); count > 0 && !this.#hasEnded; count--)
      this.#request();
  }

  #push(message: Buffer, mayLie: boolean): void {
    if (!mayLie || !this.#random.chance(this.#liesPercent)) {
      this.messages.push(message);
      return;
    }
    this.isHonest = false;
    const random = this.#random;
    const kind = random.below(4);
    const copy = Buffer.from(message);
    if (kind === 0) copy[random.below(copy.length)]! ^= 1 << random.below(8);
    else if (kind === 1) copy.writeUInt32BE(random.pick(LIES), random.below(Math.max(1, copy.length - 3)));
    else if (kind === 2) copy.fill(random.below(256), random.below(copy.length));
    this.messages.push(kind === 3 ? copy.subarray(0, random.below(copy.length)) : copy);
  }

  #option(): void {
    const random = this.#random;
    const option = random.pick(OPTIONS);
    // A GO that succeeds would end the options without this client knowing.
    const name = option === nbd.NBD_OPT_GO ? 'absent' : random.pick(NAMES);
    let body: Buffer = NOTHING;
    if (option === nbd.NBD_OPT_INFO || option === nbd.NBD_OPT_GO)
      body = encodeInfo(
        name,
        Array.from({ length: random.below(5) }, () => random.below(6)),
      );
    if (option === nbd.NBD_OPT_LIST_META_CONTEXT || option === nbd.NBD_OPT_SET_META_CONTEXT)
      body = encodeContexts(name, this.#queries());
    if (option === 12 || option === 99) body = ZEROS.subarray(0, random.pick([0, 10, 8192, 8193, 30_000]));
    if (option === nbd.NBD_OPT_EXTENDED_HEADERS) this.#isExtended = true;
    if (option === nbd.NBD_OPT_ABORT) this.#hasEnded = true;
    this.#push(encodeOption(option, body), true);
  }

  #queries(): string[] {
    return Array.from({ length: this.#random.below(6) }, () => this.#random.pick(QUERIES));
  }

  #go(): void {
    const random = this.#random;
    const name = random.pick(['disk', 'disk', 'disk@a', 'huge']);
    if (random.chance(70)) {
      this.#push(encodeOption(nbd.NBD_OPT_STRUCTURED_REPLY, NOTHING), false);
      this.#push(encodeOption(nbd.NBD_OPT_SET_META_CONTEXT, encodeContexts(name, this.#queries())), false);
    }
    if (random.chance(10) && !this.#isExtended)
      this.#push(encodeOption(nbd.NBD_OPT_EXPORT_NAME, Buffer.from(name)), true);
    else this.#push(encodeOption(nbd.NBD_OPT_GO, encodeInfo(name, [3])), true);
  }

  #request(): void {
    const random = this.#random;
    const type = random.chance(96) ? random.below(8) : random.pick([8, 99, 0xffff]);
    if (type === nbd.NBD_CMD_DISC) {
      if (!random.chance(10)) return;
      this.#hasEnded = true;
    }
    const cookie = this.cookies.size + 1;
    const flags = random.chance(70) ? 0 : 1 << random.below(random.chance(90) ? 6 : 16);
    const offset = random.chance(70) ? random.below(4 << 20) : random.pick(OFFSETS);
    let length = random.chance(70) ? random.below(8192) : random.pick(LENGTHS);
    if (type === nbd.NBD_CMD_WRITE && length > ZEROS.length) length = ZEROS.length;
    if (type === nbd.NBD_CMD_READ && length > 2 ** 20 && length <= 2 ** 25) length = 2 ** 20;
    const isQuestion = type === nbd.NBD_CMD_BLOCK_STATUS && this.#isExtended && random.chance(30);
    const payload = isQuestion ? this.#questionPayload(length) : ZEROS.subarray(0, length);
    const withPayload =
      (flags & nbd.NBD_CMD_FLAG_PAYLOAD_LEN) !== 0 || isQuestion || type === nbd.NBD_CMD_WRITE;
    const hasPayload = this.#isExtended ? withPayload : type === nbd.NBD_CMD_WRITE;
    if (hasPayload && !isQuestion) length = Math.min(length, ZEROS.length);
    if (isQuestion) length = payload.length;
    const shape = {
      type,
      cookie,
      offset,
      length,
      flags: isQuestion ? flags | nbd.NBD_CMD_FLAG_PAYLOAD_LEN : flags,
    };
    const header = this.#isExtended ? encodeExtended(shape) : encodeRequest(shape);
    if (type !== nbd.NBD_CMD_DISC) this.cookies.add(cookie);
    this.#push(hasPayload ? Buffer.concat([header, payload]) : header, true);
  }

  #questionPayload(length: number): Buffer {
    const ids = Array.from({ length: this.#random.below(4) }, () => u32(this.#random.below(4)));
    return Buffer.concat([u32(0), u32(length), ...ids]);
  }

  /** The bytes, cut anywhere. */
  *pieces(): Generator<Buffer> {
    const random = this.#random;
    const bytes = Buffer.concat(this.messages);
    const most = random.pick([7, 100, 5000, 200_000]);
    for (let at = 0; at < bytes.length; ) {
      const end = Math.min(bytes.length, at + 1 + random.below(at < 400 ? most : Math.max(most, 2000)));
      yield bytes.subarray(at, end);
      at = end;
    }
  }
}
