/** Mistakes in TLS for NBD clients. No I/O. */

import { type Fault, inNbd } from './fault.ts';

export const TLS_FAULTS: readonly Fault[] = [
  {
    name: 'bytes that come in one read with STARTTLS are taken for encrypted ones',
    file: 'src/nbd/connection.ts',
    text: "if (at < chunk.length) this.#refuse('bytes in plain text came with STARTTLS');\n      else this.#beginTls();",
    replacement: 'this.#held = Buffer.from(chunk.subarray(at));\n      this.#beginTls();',
    tests: [inNbd('cve')],
  },
  {
    name: 'what was agreed on in plain text holds behind STARTTLS',
    file: 'src/nbd/handshake.ts',
    text: 'this.#agreed = new Agreed();\n    this.#isEncrypted = true;',
    replacement: 'this.#isEncrypted = true;',
    tests: [inNbd('conformance/starttls')],
  },
  {
    name: 'a client may show the certificate of any authority',
    file: 'src/tls/handshakes.ts',
    text: 'requestCert: true, rejectUnauthorized: true',
    replacement: 'requestCert: true, rejectUnauthorized: false',
    tests: [inNbd('tls')],
  },
  {
    name: 'a client that is to be verified is asked for no certificate',
    file: 'src/tls/handshakes.ts',
    text: 'requestCert: true, rejectUnauthorized: true',
    replacement: 'requestCert: false, rejectUnauthorized: true',
    tests: [inNbd('tls')],
  },
  {
    name: 'a certificate that was revoked is accepted',
    file: 'src/tls/handshakes.ts',
    text: 'const crl = revoked === undefined ? {} : { crl: [...revoked] };',
    replacement: 'const crl = revoked === undefined ? {} : {};',
    tests: [inNbd('tls')],
  },
  {
    name: 'of several lists of revoked certificates only the first counts',
    file: 'src/tls/handshakes.ts',
    text: 'const crl = revoked === undefined ? {} : { crl: [...revoked] };',
    replacement: 'const crl = revoked === undefined ? {} : { crl: revoked[0]! };',
    tests: [inNbd('tls')],
  },
  {
    name: 'options are answered in plain text where TLS is required',
    file: 'src/nbd/handshake.ts',
    text: "if (this.#terms.tls !== 'require' || this.#isEncrypted) return false;",
    replacement: "if (this.#terms.tls !== 'require' || this.#options > 0) return false;",
    tests: [inNbd('conformance/starttls'), inNbd('cve')],
  },
  {
    name: 'EXPORT_NAME leads to an export in plain text where TLS is required',
    file: 'src/nbd/handshake.ts',
    text: 'if (this.#needsTls) return this.#refusePlain();',
    replacement:
      'if (this.#needsTls && this.#option !== nbd.NBD_OPT_EXPORT_NAME) return this.#refusePlain();',
    tests: [inNbd('conformance/starttls')],
  },
  {
    name: 'a session is resumed by whoever has its ticket',
    file: 'src/tls/handshakes.ts',
    text: 'constants.SSL_OP_NO_TICKET | ',
    replacement: '',
    tests: [inNbd('tls')],
  },
  {
    name: 'a session of TLS 1.2 is negotiated anew',
    file: 'src/tls/handshakes.ts',
    text: ' | constants.SSL_OP_NO_RENEGOTIATION',
    replacement: '',
    tests: [inNbd('tls')],
  },
  {
    name: 'a TLS session that fails later leaves its connection open',
    file: 'src/nbd/connection.ts',
    text: 'this.#failed(error);\n      socket.destroy();',
    replacement: 'this.#failed(error);',
    tests: [inNbd('tls')],
  },
];
