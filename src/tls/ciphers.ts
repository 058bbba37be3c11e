/** What TLS may be agreed on, at both ends: by the names of OpenSSL. */

/** Keys agreed on anew for each session, and nothing that is not authenticated. AES of 128 bits is the fastest. */
export const CIPHERS = [
  'TLS_AES_128_GCM_SHA256',
  'TLS_CHACHA20_POLY1305_SHA256',
  'TLS_AES_256_GCM_SHA384',
  'ECDHE-ECDSA-AES128-GCM-SHA256',
  'ECDHE-RSA-AES128-GCM-SHA256',
  'ECDHE-ECDSA-CHACHA20-POLY1305',
  'ECDHE-RSA-CHACHA20-POLY1305',
  'ECDHE-ECDSA-AES256-GCM-SHA384',
  'ECDHE-RSA-AES256-GCM-SHA384',
].join(':');
/** In TLS 1.3 a shared key goes with SHA-256; in 1.2 these are what OpenSSL and GnuTLS both have. */
export const CIPHERS_OF_SHARED_KEYS = [
  'TLS_AES_128_GCM_SHA256',
  'TLS_CHACHA20_POLY1305_SHA256',
  'ECDHE-PSK-CHACHA20-POLY1305',
  'DHE-PSK-AES256-GCM-SHA384',
].join(':');
