/**
 * Socket activation: sockets that systemd, or whoever starts this process, listens on for it.
 *
 *     LISTEN_PID      whom they are for; whoever is not meant leaves them alone
 *     LISTEN_FDS      how many there are: descriptors 3, 4, ...
 *     LISTEN_FDNAMES  their names, with colons between
 *
 * Source: sd_listen_fds(3). Its variables are removed, so that no program that this one starts takes itself for the one
 * that is meant.
 */

import { closeOnExec } from '../base/libc.ts';
import { StoreError } from '../base/errors.ts';

const FD_FIRST = 3;
const FDS_MAX = 1024;

export interface InheritedFd {
  readonly fd: number;
  /** `FileDescriptorName=` of its socket unit; access rules speak of the listener by it. */
  readonly name: string;
}

/** The descriptors that `environment` hands to process `pid`; its variables are gone afterwards. @throws INVALID_ARGUMENT */
export function takeInheritedFds(environment: NodeJS.ProcessEnv, pid: number): InheritedFd[] {
  const { LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES } = environment;
  for (const name of ['LISTEN_PID', 'LISTEN_PIDFDID', 'LISTEN_FDS', 'LISTEN_FDNAMES'])
    delete environment[name];
  if (LISTEN_PID !== String(pid) || LISTEN_FDS === undefined) return [];
  const count = /^\d{1,4}$/.test(LISTEN_FDS) ? Number(LISTEN_FDS) : Number.NaN;
  if (!(count <= FDS_MAX)) {
    throw new StoreError(
      'INVALID_ARGUMENT',
      `LISTEN_FDS is '${LISTEN_FDS}', and should be how many sockets there are to be listened on; start it without`,
    );
  }
  const names = LISTEN_FDNAMES?.split(':') ?? [];
  const inherited = Array.from({ length: count }, (_, i) => ({
    fd: FD_FIRST + i,
    name: names[i] || 'unknown',
  }));
  for (const { fd } of inherited) closeOnExec(fd);
  return inherited;
}
