/**
 * Certificates, made by openssl once for each test file that asks, and keys shared beforehand. The directories are laid out as nbdkit, QEMU and
 * libnbd have it.
 */

import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';

export const TLS_TOOLS = ['openssl'];

export interface MadeCertificates {
  /** ca-cert.pem, server-cert.pem, server-key.pem; and client-cert.pem, client-key.pem of `alice`. */
  readonly all: string;
  /** ca-cert.pem alone: a client that shows no certificate. */
  readonly authorityOnly: string;
  /** A client certificate of another authority, which calls itself `alice` too, beside the true ca-cert.pem. */
  readonly stranger: string;
  /** Of the true authority, for `mallory`; `revoke` puts it on the list. */
  readonly revoked: string;
  /** The server's files again, with ca-crl.pem, which has `mallory` on it. */
  readonly withList: string;
  /** A client certificate that the true authority signed and that has expired. */
  readonly expired: string;
  /** The server's files again, with a certificate that names another host, and no alternative one. */
  readonly elsewhere: string;
  /** Client certificates of an intermediate authority, with its own behind them: of `bob`, and of `carol`, which is revoked. */
  readonly below: string;
  readonly revokedBelow: string;
  /** The server's files again, with a ca-crl.pem that has the lists of both authorities. */
  readonly withLists: string;
}

function openssl(cwd: string, ...args: string[]): void {
  execFileSync('openssl', args, { cwd, stdio: ['ignore', 'ignore', 'pipe'] });
}

class Authority {
  readonly directory: string;
  readonly #above: Authority | undefined;

  /** `above` signs what would otherwise sign itself. */
  constructor(directory: string, name: string, above?: Authority) {
    this.directory = directory;
    this.#above = above;
    fs.mkdirSync(directory, { recursive: true });
    makeKey(directory, 'ca-key.pem');
    if (above !== undefined) {
      openssl(directory, ...`req -new -key ca-key.pem -out request.pem -subj /CN=${name}`.split(' '));
      const use = 'basicConstraints=critical,CA:true\nkeyUsage=critical,keyCertSign,cRLSign\n';
      fs.writeFileSync(path.join(directory, 'extensions'), use);
      above.#sign(directory, 'ca-cert.pem', 2);
      return;
    }
    const use = ['-addext', 'keyUsage=critical,keyCertSign,cRLSign'];
    openssl(
      directory,
      ...`req -x509 -new -key ca-key.pem -out ca-cert.pem -days 2 -subj /CN=${name}`.split(' '),
      ...use,
    );
  }

  /** Files `${as}-cert.pem` and `${as}-key.pem` in `directory`. */
  issue(directory: string, as: 'server' | 'client', subject: string, days = 2): void {
    fs.mkdirSync(directory, { recursive: true });
    makeKey(directory, `${as}-key.pem`);
    openssl(directory, ...`req -new -key ${as}-key.pem -out request.pem -subj ${subject}`.split(' '));
    const isHere = as === 'server' && subject.endsWith('CN=localhost');
    const names = isHere ? 'subjectAltName=DNS:localhost,IP:127.0.0.1\n' : '';
    const use = 'keyUsage=critical,digitalSignature\nbasicConstraints=critical,CA:false\n';
    fs.writeFileSync(path.join(directory, 'extensions'), `${names}${use}extendedKeyUsage=${as}Auth\n`);
    this.#sign(directory, `${as}-cert.pem`, days);
    if (this.#above === undefined) return;
    const own = fs.readFileSync(path.join(this.directory, 'ca-cert.pem'));
    fs.appendFileSync(path.join(directory, `${as}-cert.pem`), own);
  }

  #sign(directory: string, out: string, days: number): void {
    const [certificate, key] = ['ca-cert.pem', 'ca-key.pem'].map((name) => path.join(this.directory, name));
    const signed = `x509 -req -in request.pem -CA ${certificate!} -CAkey ${key!} -CAcreateserial -extfile extensions`;
    openssl(directory, ...`${signed} -out ${out} -days ${days}`.split(' '));
  }

  /** ca-crl.pem in `directory`, with the certificate in `file`. */
  revoke(directory: string, file: string): void {
    const own = (name: string): string => path.join(this.directory, name);
    fs.writeFileSync(own('index.txt'), '');
    fs.writeFileSync(
      own('ca.cnf'),
      `[ca]\ndefault_ca=d\n[d]\ndatabase=${own('index.txt')}\ndefault_md=sha256\ndefault_crl_days=2\n`,
    );
    const by = `-config ${own('ca.cnf')} -cert ${own('ca-cert.pem')} -keyfile ${own('ca-key.pem')}`.split(
      ' ',
    );
    openssl(this.directory, 'ca', ...by, '-revoke', file);
    openssl(this.directory, 'ca', ...by, '-gencrl', '-out', path.join(directory, 'ca-crl.pem'));
  }
}

function makeKey(directory: string, name: string): void {
  openssl(directory, ...`genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out ${name}`.split(' '));
  fs.chmodSync(path.join(directory, name), 0o600);
}

/** Makes all of them below `directory`, with keys of elliptic curves, which are quickly made. */
export function makeCertificates(directory: string): MadeCertificates {
  const at = (name: string): string => path.join(directory, name);
  const authority = new Authority(at('authority'), 'authority');
  const other = new Authority(at('other'), 'other');
  const between = new Authority(at('between'), 'between', authority);
  const copy = (to: string, ...names: string[]): void => {
    fs.mkdirSync(at(to), { recursive: true });
    for (const name of names)
      fs.copyFileSync(
        path.join(name.startsWith('ca') ? at('authority') : at('all'), name),
        path.join(at(to), name),
      );
  };
  authority.issue(at('all'), 'server', '/O=Coppice/CN=localhost');
  authority.issue(at('all'), 'client', '/O=Coppice/CN=alice');
  authority.issue(at('revoked'), 'client', '/CN=mallory');
  authority.issue(at('expired'), 'client', '/CN=alice', 0);
  other.issue(at('stranger'), 'client', '/CN=alice');
  authority.issue(at('elsewhere'), 'server', '/CN=elsewhere');
  between.issue(at('below'), 'client', '/CN=bob');
  between.issue(at('revokedBelow'), 'client', '/CN=carol');
  for (const to of [
    'all',
    'authorityOnly',
    'stranger',
    'revoked',
    'expired',
    'elsewhere',
    'below',
    'revokedBelow',
  ])
    copy(to, 'ca-cert.pem');
  copy('withList', 'ca-cert.pem', 'server-cert.pem', 'server-key.pem');
  authority.revoke(at('withList'), path.join(at('revoked'), 'client-cert.pem'));
  copy('withLists', 'ca-cert.pem', 'server-cert.pem', 'server-key.pem');
  between.revoke(at('between'), path.join(at('revokedBelow'), 'client-cert.pem'));
  const lists = [at('withList'), at('between')].map((each) => fs.readFileSync(path.join(each, 'ca-crl.pem')));
  fs.writeFileSync(path.join(at('withLists'), 'ca-crl.pem'), Buffer.concat(lists));
  return {
    all: at('all'),
    authorityOnly: at('authorityOnly'),
    stranger: at('stranger'),
    revoked: at('revoked'),
    withList: at('withList'),
    expired: at('expired'),
    elsewhere: at('elsewhere'),
    below: at('below'),
    revokedBelow: at('revokedBelow'),
    withLists: at('withLists'),
  };
}

/** A file of shared keys as psktool writes it, for `names`; answers its path. */
export function makeSharedKeys(file: string, ...names: string[]): string {
  fs.writeFileSync(file, names.map((name) => `${name}:${randomBytes(32).toString('hex')}\n`).join(''), {
    mode: 0o600,
  });
  return file;
}
