/**
 * Where a server listens: Unix sockets and TCP of its own, and sockets that whoever started the process listens on.
 *
 * Invariants:
 * - Each listener has a name, by which access rules speak of it: the path of its socket, or `HOST:PORT` as in its URI,
 *   or what it was handed over as.
 * - The file of a socket goes away with the server only if the server made it.
 * - Each listener has a pace of its own: who knocks at one of them too often keeps nobody from another.
 */

import net from 'node:net';
import type { Logger } from 'pino';
import { AcceptPace, type AcceptPaceOptions } from './accept-pace.ts';
import type { ListenerAddress, TcpAddress } from './address.ts';
import { fromSystemError, StoreError } from './errors.ts';
import { inspectListener, LISTEN_BACKLOG } from './libc.ts';
import { listenOnFile, type SocketFile } from './unix-listener.ts';

export interface NamedListener {
  readonly name: string;
  /** Undefined for a Unix socket without a path. */
  readonly address: ListenerAddress | undefined;
}

interface Listener extends NamedListener {
  readonly server: net.Server;
  /** That the server has made. */
  readonly file?: SocketFile;
  readonly pace: AcceptPace | undefined;
}

export interface ListenersOptions {
  readonly keepAliveMs: number;
  readonly logger: Logger;
  /** How fast connections are accepted; as they come, if undefined. */
  readonly pace?: AcceptPaceOptions;
  readonly accepted: (socket: net.Socket, listener: string) => void;
}

export class Listeners {
  readonly #options: ListenersOptions;
  #listeners: Listener[] = [];

  constructor(options: ListenersOptions) {
    this.#options = options;
  }

  /** In the order in which they were opened. */
  list(): readonly NamedListener[] {
    return this.#listeners;
  }

  /** @throws IN_USE (naming the path), NOT_FOUND, INVALID_ARGUMENT, IO */
  async openUnix(path: string): Promise<void> {
    const server = this.#newServer();
    const file = await listenOnFile(server, path);
    this.#add(server, { name: path, address: { socketPath: file.publicPath } }, file);
  }

  /** Port 0 is any free one; `::` is all of IPv6, and nothing else. @throws IN_USE, IO */
  async openTcp(host: string, port: number): Promise<TcpAddress> {
    const server = this.#newServer();
    try {
      await listening(server, { host, port, ipv6Only: true, backlog: LISTEN_BACKLOG });
    } catch (error) {
      const doing = `listening on ${host}:${port}`;
      if ((error as NodeJS.ErrnoException).code === 'EADDRINUSE')
        throw new StoreError('IN_USE', `${doing}: in use`, error);
      throw fromSystemError(error, doing);
    }
    const address = boundAddress(server);
    this.#add(server, { name: nameOf(address), address });
    return address;
  }

  /** Listens on a descriptor that this process was started with. @throws INVALID_ARGUMENT (what it is), IO */
  async adopt(fd: number, name: string): Promise<void> {
    const which = `descriptor ${fd} (${name})`;
    const socket = inspectListener(fd);
    if (typeof socket === 'string')
      throw new StoreError('INVALID_ARGUMENT', `${which}, handed over to be listened on, ${socket}`);
    const server = this.#newServer();
    try {
      await listening(server, { fd });
    } catch (error) {
      throw fromSystemError(error, `listening on ${which}`);
    }
    const { family, socketPath } = socket;
    const unix = socketPath === '' ? undefined : { socketPath };
    this.#add(server, { name, address: family === 'unix' ? unix : boundAddress(server) });
  }

  /** Nobody is let in any more; resolves when all connections are gone too. */
  async close(): Promise<void> {
    const closing = this.#listeners;
    this.#listeners = [];
    await Promise.all(
      closing.map(
        ({ server, file, pace }) =>
          new Promise<void>((resolve) => {
            server.close(() => resolve());
            file?.remove();
            pace?.close();
          }),
      ),
    );
  }

  #newServer(): net.Server {
    return net.createServer({
      allowHalfOpen: true,
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: this.#options.keepAliveMs,
      pauseOnConnect: true,
    });
  }

  /** Requires: the event loop had no turn since the server listens, so that nobody was accepted yet. */
  #add(server: net.Server, named: NamedListener, file?: SocketFile): void {
    const { accepted, logger, pace: paceOptions } = this.#options;
    const pace = paceOptions && new AcceptPace(server, paceOptions);
    server.on('connection', (socket) => {
      accepted(socket, named.name);
      pace?.accepted();
    });
    // Such as too many open files: this connection is lost, the server is not.
    server.on('error', (error) => logger.error({ err: error }, 'a connection could not be accepted'));
    this.#listeners.push({ ...named, server, pace, ...(file && { file }) });
  }
}

function listening(server: net.Server, where: net.ListenOptions & { fd?: number }): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(where, () => {
      server.off('error', reject);
      resolve();
    });
  });
}

function boundAddress(server: net.Server): TcpAddress {
  const { address, port } = server.address() as net.AddressInfo;
  return { host: address, port };
}

function nameOf({ host, port }: TcpAddress): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}
