/**
 * One request and its answer over a Unix socket, for the control client. Knows HTTP, not what travels.
 *
 * Invariants: connections are kept and bounded; an exchange settles once, and its failure says whether anybody was
 * listening at all (`NobodyThere`), because only then may another process open the store.
 */

import http from 'node:http';

const CONNECTIONS_MAX = 8;

/** Nobody listens on the socket. */
export class NobodyThere extends Error {}

/** Codes of a connect that found no listener; with the last two, opening the store gives the better message. */
const NOBODY_CODES = new Set(['ENOENT', 'ECONNREFUSED', 'ENOTSOCK', 'ENOTDIR', 'EACCES']);

export interface Outgoing {
  readonly method: 'GET' | 'POST' | 'PUT';
  readonly path: string;
  readonly contentType?: string;
  readonly slices?: readonly Buffer[];
  /** How long to wait for the headers of the answer; for ever if it is missing. */
  readonly answerMsMax?: number;
}

export class HttpExchange {
  readonly #socketPath: string;
  readonly #agent = new http.Agent({ keepAlive: true, maxSockets: CONNECTIONS_MAX });

  constructor(socketPath: string) {
    this.#socketPath = socketPath;
  }

  /** Sends a request; answers with the head of the answer, its body yet to be read. @throws NobodyThere, Error */
  start(outgoing: Outgoing): Promise<http.IncomingMessage> {
    const slices = outgoing.slices ?? [];
    let lengthBytes = 0;
    for (const slice of slices) lengthBytes += slice.length;
    const headers: http.OutgoingHttpHeaders = { host: 'coppice' };
    if (outgoing.contentType !== undefined) {
      headers['content-type'] = outgoing.contentType;
      headers['content-length'] = lengthBytes;
    }
    return new Promise((resolve, reject) => {
      const request = http.request({
        socketPath: this.#socketPath,
        agent: this.#agent,
        method: outgoing.method,
        path: outgoing.path,
        headers,
      });
      const timer =
        outgoing.answerMsMax === undefined
          ? undefined
          : setTimeout(() => request.destroy(new Error('it does not answer')), outgoing.answerMsMax);
      request.once('response', (response) => {
        clearTimeout(timer);
        resolve(response);
      });
      // Stays for good: a connection can fail a second time, while the body is read.
      request.on('error', (error: NodeJS.ErrnoException) => {
        clearTimeout(timer);
        const isNobody = error.syscall === 'connect' && NOBODY_CODES.has(error.code ?? '');
        reject(isNobody ? new NobodyThere(error.message) : error);
      });
      for (const slice of slices) request.write(slice);
      request.end();
    });
  }

  close(): void {
    this.#agent.destroy();
  }
}

/** All of an answer's body. */
export async function bodyOf(response: http.IncomingMessage): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of response) pieces.push(piece as Buffer);
  return pieces.length === 1 ? pieces[0]! : Buffer.concat(pieces);
}

/** The lines of an answer as they arrive; the last one needs no line end. */
export async function* linesOf(response: http.IncomingMessage): AsyncGenerator<string> {
  let rest = '';
  response.setEncoding('utf8');
  for await (const piece of response as AsyncIterable<string>) {
    const lines = (rest + piece).split('\n');
    rest = lines.pop()!;
    yield* lines;
  }
  if (rest !== '') yield rest;
}
