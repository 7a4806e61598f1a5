/* SPDX-License-Identifier: MIT
 * mechanism: a mechanism and its parameter, from Lua.
 *
 * "sha256_rsa_pkcs", "CKM_AES_ECB", a number; or a table { "aes_cbc_pad", iv = bytes },
 * { "aes_gcm", iv =, aad =, tag_bits = 128 }, { "rsa_pkcs_oaep", hash = "sha_1", mgf = 1 },
 * { "rsa_pkcs_pss", hash = "sha256", mgf = 2, salt_len = 32 },
 * { "ecdh1_derive", public_data = point }, or any with parameter = bytes as they go to
 * the token.
 */
#ifndef KF_LUA_MECHANISM_H
#define KF_LUA_MECHANISM_H

#include <lua.h>
#include <p11-kit/pkcs11.h>

struct kf_lua_mechanism {
    CK_MECHANISM mechanism;
    union {
        CK_GCM_PARAMS gcm;
        CK_RSA_PKCS_OAEP_PARAMS oaep;
        CK_RSA_PKCS_PSS_PARAMS pss;
        CK_ECDH1_DERIVE_PARAMS ecdh;
    } parameter;
};

/* Reads the mechanism at index; raises when it is none. Its bytes stay the strings of the
 * table, which must stay on the stack. */
void kf_lua_check_mechanism(lua_State *L, int index, struct kf_lua_mechanism *out);

#endif
