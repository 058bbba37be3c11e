/**
 * The door of a store that another process has open: a client of its control server (see wire.ts, door.ts).
 *
 * Invariants: an error of the store arrives with its code and sentence; if the server goes away, every request that
 * waits fails with IO and says so; an answer that was cut short is never taken for a whole one.
 */

import type http from 'node:http';
import { AssertionError, hasCode, StoreError } from '../base/errors.ts';
import { openSocketPath, type SocketPath } from '../base/socket-path.ts';
import type { CompactionEstimate, CompactionProgress, ThoroughOptions } from '../compaction/thorough.ts';
import type { AllocationRun } from '../volume/device.ts';
import type {
  DiffExtent,
  Finding,
  PruneDecision,
  ScheduleSummary,
  ScrubStep,
  StatusOptions,
  StoreStatus,
  VersionSummary,
  VersionWithSpace,
} from '../volume/summary.ts';
import type { Demoted, DemoteOptions } from '../volume/roles.ts';
import type { ScrubOptions } from '../volume/scrub.ts';
import type { HoldOptions } from '../volume/version-changes.ts';
import type { DeleteOptions, ResizeOptions, RollbackOptions } from '../volume/version-removal.ts';
import type { Disk, Door, FeedDoor, ReceiveDoor, RolledBack, ScheduleDoor, SpaceReport } from './door.ts';
import { bodyOf, HttpExchange, linesOf, NobodyThere, type Outgoing } from './http-exchange.ts';
import { CONTROL_PROTOCOL, CONTROL_SERVICE, decodeError, type Hello, type StreamLine } from './wire.ts';

/** A server that is alive answers a greeting at once; one that was stopped or hangs must not hang the command. */
const HELLO_MS_MAX = 10_000;
const HANG_UP_CODES = new Set(['ECONNRESET', 'EPIPE']);

export class ControlClient implements Door {
  readonly #socketPath: SocketPath;
  readonly #exchange: HttpExchange;

  private constructor(socketPath: SocketPath) {
    this.#socketPath = socketPath;
    this.#exchange = new HttpExchange(socketPath.path);
  }

  /** The door behind the socket `file`, or undefined if nobody listens there. @throws IO, CLOSED, UNSUPPORTED_FORMAT */
  static async connect(file: string): Promise<ControlClient | undefined> {
    let client: ControlClient;
    try {
      client = new ControlClient(openSocketPath(file));
    } catch (error) {
      if (hasCode(error, 'NOT_FOUND')) return undefined; // no such directory
      throw error;
    }
    try {
      await client.#greet();
      return client;
    } catch (error) {
      await client.close();
      const { cause } = error as Error;
      if (cause instanceof NobodyThere) return undefined;
      // It was there when we connected, and hung up: it is stopping, or was just killed.
      const isHangUp = HANG_UP_CODES.has((cause as NodeJS.ErrnoException | undefined)?.code ?? '');
      throw isHangUp ? new StoreError('CLOSED', 'the server is stopping; try again', error) : error;
    }
  }

  create(name: string, sizeBytes: number): Promise<VersionSummary> {
    return this.#post('/v1/create', { name, size: sizeBytes });
  }

  snapshot(names: readonly string[]): Promise<VersionSummary[]> {
    return this.#post('/v1/snapshot', { names });
  }

  clone(source: string, volume: string): Promise<VersionSummary> {
    return this.#post('/v1/clone', { source, volume });
  }

  delete(names: readonly string[], options: DeleteOptions): Promise<string[]> {
    return this.#post('/v1/delete', { ...options, names });
  }

  rollback(name: string, options: RollbackOptions): Promise<RolledBack> {
    return this.#post('/v1/rollback', { ...options, name });
  }

  promote(name: string): Promise<VersionSummary> {
    return this.#post('/v1/promote', { name });
  }

  demote(name: string, options: DemoteOptions): Promise<Demoted> {
    return this.#post('/v1/demote', { ...options, name });
  }

  rename(name: string, to: string): Promise<VersionSummary> {
    return this.#post('/v1/rename', { name, to });
  }

  resize(name: string, sizeBytes: number, options: ResizeOptions): Promise<VersionSummary> {
    return this.#post('/v1/resize', { ...options, name, size: sizeBytes });
  }

  hold(name: string, options: HoldOptions): Promise<VersionSummary> {
    return this.#post('/v1/hold', { ...options, name });
  }

  release(name: string, owner: string): Promise<VersionSummary> {
    return this.#post('/v1/release', { name, owner });
  }

  setPriority(name: string, priority: number): Promise<VersionSummary> {
    return this.#post('/v1/priority', { name, priority });
  }

  list(): Promise<VersionSummary[]> {
    return this.#get('/v1/versions', {});
  }

  listWithSpace({ ghosts = false }: { ghosts?: boolean | undefined }): Promise<VersionWithSpace[]> {
    return this.#get('/v1/versions/space', { ghosts: String(ghosts) });
  }

  space(names: readonly string[]): Promise<SpaceReport> {
    return this.#post('/v1/space', { names });
  }

  show(name: string): Promise<VersionSummary> {
    return this.#get('/v1/version', { name });
  }

  status({ atCheckpoint = false }: StatusOptions = {}): Promise<StoreStatus> {
    return this.#get('/v1/status', { atCheckpoint: String(atCheckpoint) });
  }

  async flush(): Promise<void> {
    await this.#post('/v1/flush', {});
  }

  check({ quick = false }: { quick?: boolean | undefined } = {}): AsyncGenerator<Finding> {
    const advice = 'the server stopped in the middle of the check; start it again, or check without it';
    return this.#stream<Finding>({ method: 'GET', path: `/v1/check${quick ? '?quick=true' : ''}` }, advice);
  }

  scrub(options: ScrubOptions, signal?: AbortSignal): AsyncGenerator<ScrubStep> {
    const advice = 'the server stopped in the middle of the scrub; start it again, and scrub again';
    return this.#stream<ScrubStep>(posting('/v1/scrub', options), advice, signal);
  }

  estimateCompaction(options: ThoroughOptions): Promise<CompactionEstimate> {
    return this.#post('/v1/compaction/estimate', options);
  }

  compact(options: ThoroughOptions): AsyncGenerator<CompactionProgress> {
    const advice =
      'the server stopped in the middle of it; nothing is lost, start it again and compact again';
    return this.#stream<CompactionProgress>(posting('/v1/compaction', options), advice);
  }

  async pauseCompaction(isPaused: boolean): Promise<void> {
    await this.#post('/v1/compaction/pause', { isPaused });
  }

  diff(from: string, to: string): AsyncGenerator<DiffExtent> {
    const advice = 'the server stopped in the middle of the comparison; start it again, and compare again';
    return this.#stream<DiffExtent>({ method: 'GET', path: path('/v1/diff', { from, to }) }, advice);
  }

  /** The items of a stream; `cutShort` is what to say if it has no end. Who stops reading ends it at the server too. */
  async *#stream<T>(request: Outgoing, cutShort: string, signal?: AbortSignal): AsyncGenerator<T> {
    signal?.throwIfAborted();
    const response = await this.#start(request);
    const hangUp = (): void => void response.destroy();
    signal?.addEventListener('abort', hangUp, { once: true });
    try {
      for await (const text of linesOf(response)) {
        const line = parse(text) as StreamLine<T>;
        if ('end' in line) return;
        if ('error' in line) throw decodeError(line.error, 200);
        yield line.item;
      }
    } catch (error) {
      signal?.throwIfAborted();
      throw asGone(error);
    } finally {
      signal?.removeEventListener('abort', hangUp);
      hangUp();
    }
    signal?.throwIfAborted();
    throw new StoreError('IO', cutShort);
  }

  async disk(name: string): Promise<Disk> {
    const description = await this.#get<Pick<Disk, 'name' | 'sizeBytes' | 'readOnly'>>('/v1/disk', { name });
    return {
      ...description,
      read: async (offset, length) => {
        const bytes = await this.#whole({
          method: 'GET',
          path: path('/v1/disk/bytes', { name, offset, length }),
        });
        if (bytes.length === length) return bytes;
        throw new StoreError(
          'IO',
          `the server answered ${bytes.length} bytes of '${name}' where ${length} were asked`,
        );
      },
      readRuns: async (runs) => {
        const bytes = await this.#whole(posting('/v1/disk/runs', { name, runs }));
        const wanted = runs.reduce((sum, [, length]) => sum + length, 0);
        if (bytes.length === wanted) return bytes;
        throw new StoreError(
          'IO',
          `the server answered ${bytes.length} bytes of '${name}' where ${wanted} were asked`,
        );
      },
      write: async (offset, slices) => {
        const target = path('/v1/disk/bytes', { name, offset });
        await this.#whole({ method: 'PUT', path: target, contentType: 'application/octet-stream', slices });
      },
      zero: async (offset, length) => {
        await this.#post('/v1/disk/zero', { name, offset, length });
      },
      allocation: (offset, length) =>
        this.#get<AllocationRun[]>('/v1/disk/allocation', { name, offset, length }),
      flush: async () => {
        await this.#post('/v1/disk/flush', { name });
      },
      release: () => undefined, // the server gives it back after a pause
    };
  }

  readonly receives: ReceiveDoor = {
    begin: (head, name) => this.#post('/v1/receive', { head, name }),
    apply: async (session, body) => {
      const target = path('/v1/receive/changes', { session });
      await this.#whole({
        method: 'PUT',
        path: target,
        contentType: 'application/octet-stream',
        slices: [body],
      });
    },
    advance: async (session, position) => {
      await this.#post('/v1/receive/advance', { session, position });
    },
    publish: async (session) => (await this.#post<{ name: string }>('/v1/receive/publish', { session })).name,
    abort: async (receive) => {
      await this.#post('/v1/receive/abort', { receive });
    },
    list: () => this.#get('/v1/receives', {}),
  };

  readonly schedules: ScheduleDoor = {
    set: (volume, settings) => this.#post<ScheduleSummary | null>('/v1/schedule', { volume, settings }),
    list: () => this.#get<ScheduleSummary[]>('/v1/schedules', {}),
    prune: (options) => this.#post<PruneDecision[]>('/v1/prune', options),
  };

  readonly feeds: FeedDoor = {
    list: () => this.#get('/v1/feeds', {}),
    add: (request) => this.#post('/v1/feed', request),
    remove: async (id, direction) => {
      await this.#post('/v1/feed/remove', { id, direction });
    },
    pause: (id, isPaused, direction) => this.#post('/v1/feed/pause', { id, isPaused, direction }),
    run: (id, direction) => this.#post('/v1/feed/run', { id, direction }),
  };

  async close(): Promise<void> {
    this.#exchange.close();
    this.#socketPath.close();
  }

  async #greet(): Promise<void> {
    const body = await this.#whole({ method: 'GET', path: '/v1/hello', answerMsMax: HELLO_MS_MAX });
    const hello = parse(body.toString()) as Partial<Hello>;
    if (hello.service === CONTROL_SERVICE && hello.protocol === CONTROL_PROTOCOL) return;
    throw new StoreError(
      'UNSUPPORTED_FORMAT',
      'the server that has this store open is of another version; use the coppice that started it, or stop it',
    );
  }

  async #get<T>(route: string, query: Record<string, string | number>): Promise<T> {
    return parse((await this.#whole({ method: 'GET', path: path(route, query) })).toString()) as T;
  }

  async #post<T>(route: string, fields: object): Promise<T> {
    const body = await this.#whole(posting(route, fields));
    return parse(body.toString()) as T;
  }

  /** The body of an answer that is a success. */
  async #whole(outgoing: Outgoing): Promise<Buffer> {
    const response = await this.#start(outgoing);
    try {
      return await bodyOf(response);
    } catch (error) {
      throw asGone(error);
    }
  }

  async #start(outgoing: Outgoing): Promise<http.IncomingMessage> {
    try {
      const response = await this.#exchange.start(outgoing);
      const status = response.statusCode ?? 0;
      if (status === 200) return response;
      throw decodeError(parse((await bodyOf(response)).toString(), status), status);
    } catch (error) {
      throw asGone(error);
    }
  }
}

function posting(route: string, fields: object): Outgoing {
  const slices = [Buffer.from(JSON.stringify(fields))];
  return { method: 'POST', path: route, contentType: 'application/json', slices };
}

function path(route: string, query: Record<string, string | number>): string {
  const fields = Object.entries(query).map(([key, value]) => `${key}=${encodeURIComponent(value)}`);
  return fields.length === 0 ? route : `${route}?${fields.join('&')}`;
}

function parse(text: string, status = 200): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw decodeError(undefined, status);
  }
}

/** A failure of the connection as a sentence. A StoreError of the server stays what it is. */
function asGone(error: unknown): StoreError {
  if (error instanceof StoreError) return error;
  if (error instanceof AssertionError || error instanceof TypeError) throw error;
  const reason = (error as Error).message;
  return new StoreError(
    'IO',
    `the server that has this store open went away (${reason}); look at its log, then try again`,
    error,
  );
}
