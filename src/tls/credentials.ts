/**
 * What the server proves itself with, and knows its clients by: certificates, or keys shared beforehand. Read once,
 * when it starts.
 *
 *     DIRECTORY/server-cert.pem    the server's certificate, those that it is signed with behind it
 *     DIRECTORY/server-key.pem     its key
 *     DIRECTORY/ca-cert.pem        who signs the clients' certificates; needed only where they are verified
 *     DIRECTORY/ca-crl.pem         those that are revoked, a list for each authority in clients' chains; may be missing
 *
 *     FILE of shared keys          NAME:HEXKEY, one a line, as `psktool` of GnuTLS writes it
 *
 * The names are those of nbdkit and QEMU. Errors name files, and never what is in them.
 */

import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import tls from 'node:tls';
import type { Logger } from 'pino';
import { fromSystemError, hasCode, StoreError } from '../base/errors.ts';

export interface Certificates {
  readonly kind: 'certificates';
  readonly key: Buffer;
  readonly certificate: Buffer;
  /** Who signs clients' certificates: then each client has to show one. */
  readonly clientAuthority: Buffer | undefined;
  /** Lists of them, one for each authority. */
  readonly revoked: readonly Buffer[] | undefined;
}

export interface SharedKeys {
  readonly kind: 'shared keys';
  /** By the name of the client. */
  readonly keys: ReadonlyMap<string, Buffer>;
}

export type TlsCredentials = Certificates | SharedKeys;

const MADE_AS_TOLD = 'README.md says under "TLS" how to make it';
/** What `psktool` gives is 32. Who listens can try out a shorter key at leisure. */
const KEY_BYTES_MIN = 16;
/** OpenSSL takes no longer ones. */
const KEY_BYTES_MAX = 256;
const NAME_BYTES_MAX = 255;

/** @throws NOT_FOUND, IO (a file cannot be read), INVALID_ARGUMENT (files are not what they should be, or do not fit) */
export async function loadCertificates(
  directory: string,
  verifyPeer: boolean,
  logger: Logger,
): Promise<Certificates> {
  const fileOf = (name: string): string => path.join(directory, name);
  const { certificate, key } = await loadPair(directory, 'server', logger);
  const clientAuthority = verifyPeer ? await readAuthority(fileOf('ca-cert.pem')) : undefined;
  const lists = verifyPeer ? await readIfThere(fileOf('ca-crl.pem')) : undefined;
  const revoked = lists === undefined ? undefined : listsIn(lists);
  const loaded: Certificates = { kind: 'certificates', key, certificate, clientAuthority, revoked };
  try {
    const crl = revoked === undefined ? undefined : [...revoked];
    tls.createSecureContext({ key, cert: certificate, ca: clientAuthority, crl });
  } catch (error) {
    const list = revoked === undefined ? '' : ', or ca-crl.pem is no list of revoked certificates in PEM';
    throw refusal(`the files in ${directory} are too weak or damaged${list}: make them anew`, error);
  }
  return loaded;
}

/** A certificate and its key. @throws NOT_FOUND, IO, INVALID_ARGUMENT */
export async function loadPair(
  directory: string,
  of: 'server' | 'client',
  logger: Logger,
): Promise<{ certificate: Buffer; key: Buffer }> {
  const [certificateFile, keyFile] = [`${of}-cert.pem`, `${of}-key.pem`].map((name) =>
    path.join(directory, name),
  ) as [string, string];
  const certificate = await read(certificateFile);
  const key = await read(keyFile);
  await warnOfReaders(keyFile, logger);
  requirePair(certificate, certificateFile, key, keyFile, logger);
  return { certificate, key };
}

/** The certificate of who signs others. @throws NOT_FOUND, IO, INVALID_ARGUMENT */
export async function readAuthority(file: string): Promise<Buffer> {
  const authority = await read(file);
  parseCertificate(authority, file);
  return authority;
}

/** @throws NOT_FOUND, IO (the file cannot be read), INVALID_ARGUMENT (a line is none that `psktool` writes) */
export async function loadSharedKeys(file: string, logger: Logger): Promise<SharedKeys> {
  const text = (await read(file)).toString();
  await warnOfReaders(file, logger);
  const keys = new Map<string, Buffer>();
  text.split(/\r?\n/).forEach((line, i) => {
    if (line === '') return;
    const groups = /^(?<name>[^:#\0][^:\0]*):(?<key>(?:[0-9a-f]{2})+)$/i.exec(line)?.groups;
    const where = `line ${i + 1} of ${file}`;
    if (groups === undefined) throw refusal(`${where} is not NAME:HEXKEY: write it with psktool -u NAME`);
    const [name, key] = [groups.name!, Buffer.from(groups.key!, 'hex')];
    if (key.length < KEY_BYTES_MIN || key.length > KEY_BYTES_MAX)
      throw refusal(
        `${where}: the key has ${key.length} bytes; give it ${KEY_BYTES_MIN} to ${KEY_BYTES_MAX}`,
      );
    if (Buffer.byteLength(name) > NAME_BYTES_MAX)
      throw refusal(`${where}: the name is longer than ${NAME_BYTES_MAX} bytes; choose a shorter one`);
    if (keys.has(name)) throw refusal(`${where} names a client that has a key already: remove one of them`);
    keys.set(name, key);
  });
  if (keys.size === 0) throw refusal(`${file} has no key: ${MADE_AS_TOLD}`);
  return { kind: 'shared keys', keys };
}

async function read(file: string): Promise<Buffer> {
  try {
    return await readFile(file);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'ENOENT' || code === 'ENOTDIR')
      throw new StoreError('NOT_FOUND', `there is no ${file}; ${MADE_AS_TOLD}`, error);
    if (code === 'EISDIR') throw refusal(`${file} is a directory: give the file`);
    const failure = fromSystemError(error, `${file} cannot be read`);
    throw new StoreError(failure.code, `${failure.message}; let the user that serves read it`, error);
  }
}

/** Node reads one list from each buffer, and forgets what stands behind it. */
function listsIn(file: Buffer): Buffer[] {
  const [before, ...lists] = file.toString('latin1').split(/(?=-----BEGIN X509 CRL-----)/);
  const isText = lists.length > 0 && !before!.startsWith('-----BEGIN X509 CRL-----');
  // What is no list is kept where there is nothing else: it is for OpenSSL to refuse.
  return (isText ? lists : [before!, ...lists]).map((list) => Buffer.from(list, 'latin1'));
}

async function readIfThere(file: string): Promise<Buffer | undefined> {
  try {
    return await read(file);
  } catch (error) {
    if (hasCode(error, 'NOT_FOUND')) return undefined;
    throw error;
  }
}

async function warnOfReaders(file: string, logger: Logger): Promise<void> {
  const { mode } = await stat(file).catch((error: unknown) => {
    throw fromSystemError(error, `${file} cannot be read`);
  });
  if ((mode & 0o004) !== 0)
    logger.warn(
      { file },
      'every user of this machine can read a secret key: take that away with chmod o-rwx',
    );
}

function requirePair(
  certificate: Buffer,
  certificateFile: string,
  key: Buffer,
  keyFile: string,
  logger: Logger,
): void {
  const parsed = parseCertificate(certificate, certificateFile);
  let privateKey;
  try {
    privateKey = createPrivateKey(key);
  } catch (error) {
    throw refusal(`${keyFile} is no private key in PEM without a passphrase: make it anew`, error);
  }
  if (!parsed.checkPrivateKey(privateKey))
    throw refusal(
      `${keyFile} is not the key of ${certificateFile}: put those together that were made together`,
    );
  if (Date.parse(parsed.validTo) < Date.now())
    logger.warn(
      { file: certificateFile, until: parsed.validTo },
      'the certificate has expired: make another',
    );
}

function parseCertificate(pem: Buffer, file: string): X509Certificate {
  try {
    return new X509Certificate(pem);
  } catch (error) {
    throw refusal(`${file} is no certificate in PEM: make it anew`, error);
  }
}

function refusal(message: string, cause?: unknown): StoreError {
  return new StoreError('INVALID_ARGUMENT', message, cause);
}
