/* SPDX-License-Identifier: MIT */
#include "lua/mechanism.h"

#include "base/names.h"

#include <lauxlib.h>

static CK_ULONG check_constant(lua_State *L, int index, const char *what)
{
    const struct kf_name *row;

    if (lua_isinteger(L, index))
        return (CK_ULONG)lua_tointeger(L, index);
    row = lua_type(L, index) == LUA_TSTRING
              ? kf_name_find(KF_CKM, lua_tostring(L, index))
              : NULL;
    if (!row)
        luaL_error(L, "'%s' is not a %s", luaL_tolstring(L, index, NULL), what);
    return row ? (CK_ULONG)row->value : 0;
}

static CK_ULONG number_field(lua_State *L, int index, const char *name, CK_ULONG otherwise)
{
    CK_ULONG value = otherwise;

    if (lua_getfield(L, index, name) != LUA_TNIL)
        value = (CK_ULONG)luaL_checkinteger(L, -1);
    lua_pop(L, 1);
    return value;
}

static CK_ULONG hash_field(lua_State *L, int index)
{
    CK_ULONG value = CKM_SHA_1;

    if (lua_getfield(L, index, "hash") != LUA_TNIL)
        value = check_constant(L, -1, "digest mechanism");
    lua_pop(L, 1);
    return value;
}

/* The string stays alive in the table, so it must lie there: __index is not asked. */
static CK_BYTE *bytes_field(lua_State *L, int index, const char *name, CK_ULONG *len)
{
    size_t size = 0;
    const char *bytes = NULL;

    lua_pushstring(L, name);
    if (lua_rawget(L, index) != LUA_TNIL) {
        luaL_checktype(L, -1, LUA_TSTRING);
        bytes = lua_tolstring(L, -1, &size);
    }
    lua_pop(L, 1);
    *len = size;
    return (CK_BYTE *)(uintptr_t)bytes;
}

static void fill_gcm(lua_State *L, int index, struct kf_lua_mechanism *out)
{
    CK_GCM_PARAMS *gcm = &out->parameter.gcm;

    gcm->iv_ptr = bytes_field(L, index, "iv", &gcm->iv_len);
    gcm->iv_bits = gcm->iv_len * 8;
    gcm->aad_ptr = bytes_field(L, index, "aad", &gcm->aad_len);
    gcm->tag_bits = number_field(L, index, "tag_bits", 128);
    out->mechanism.pParameter = gcm;
    out->mechanism.ulParameterLen = sizeof *gcm;
}

static void fill_oaep(lua_State *L, int index, struct kf_lua_mechanism *out)
{
    CK_RSA_PKCS_OAEP_PARAMS *oaep = &out->parameter.oaep;

    oaep->hash_alg = hash_field(L, index);
    oaep->mgf = number_field(L, index, "mgf", CKG_MGF1_SHA1);
    oaep->source = CKZ_DATA_SPECIFIED;
    oaep->source_data = bytes_field(L, index, "source", &oaep->source_data_len);
    out->mechanism.pParameter = oaep;
    out->mechanism.ulParameterLen = sizeof *oaep;
}

static void fill_pss(lua_State *L, int index, struct kf_lua_mechanism *out)
{
    CK_RSA_PKCS_PSS_PARAMS *pss = &out->parameter.pss;

    pss->hash_alg = hash_field(L, index);
    pss->mgf = number_field(L, index, "mgf", CKG_MGF1_SHA1);
    pss->s_len = number_field(L, index, "salt_len", 20);
    out->mechanism.pParameter = pss;
    out->mechanism.ulParameterLen = sizeof *pss;
}

static void fill_ecdh(lua_State *L, int index, struct kf_lua_mechanism *out)
{
    CK_ECDH1_DERIVE_PARAMS *ecdh = &out->parameter.ecdh;

    ecdh->kdf = number_field(L, index, "kdf", CKD_NULL);
    ecdh->public_data = bytes_field(L, index, "public_data", &ecdh->public_data_len);
    ecdh->shared_data = bytes_field(L, index, "shared_data", &ecdh->shared_data_len);
    out->mechanism.pParameter = ecdh;
    out->mechanism.ulParameterLen = sizeof *ecdh;
}

static const struct {
    CK_MECHANISM_TYPE type;
    void (*fill)(lua_State *L, int index, struct kf_lua_mechanism *out);
} parameters[] = {
    { CKM_AES_GCM, fill_gcm },
    { CKM_RSA_PKCS_OAEP, fill_oaep },
    { CKM_RSA_PKCS_PSS, fill_pss },
    { CKM_SHA1_RSA_PKCS_PSS, fill_pss },
    { CKM_SHA224_RSA_PKCS_PSS, fill_pss },
    { CKM_SHA256_RSA_PKCS_PSS, fill_pss },
    { CKM_SHA384_RSA_PKCS_PSS, fill_pss },
    { CKM_SHA512_RSA_PKCS_PSS, fill_pss },
    { CKM_ECDH1_DERIVE, fill_ecdh },
    { CKM_ECDH1_COFACTOR_DERIVE, fill_ecdh },
};

static void fill_known(lua_State *L, int index, struct kf_lua_mechanism *out)
{
    for (size_t i = 0; i < sizeof parameters / sizeof *parameters; i++) {
        if (parameters[i].type == out->mechanism.mechanism)
            parameters[i].fill(L, index, out);
    }
}

/* What is given as `parameter` goes as it is; a block cipher's parameter is its IV. */
static void fill(lua_State *L, int index, struct kf_lua_mechanism *out)
{
    CK_MECHANISM *m = &out->mechanism;

    m->pParameter = bytes_field(L, index, "parameter", &m->ulParameterLen);
    if (!m->pParameter)
        fill_known(L, index, out);
    if (!m->pParameter)
        m->pParameter = bytes_field(L, index, "iv", &m->ulParameterLen);
}

/***
A mechanism is a name ("sha256_rsa_pkcs", "CKM_SHA256_RSA_PKCS") or a number; one with
parameters (PKCS#11 v2.40, Current Mechanisms) is a table with the name first and the
parameters by name. What is not given has the standard's usual value.
@table mechanism
@tfield[opt] string iv of a block cipher; of AES-GCM, too
@tfield[opt] string aad of AES-GCM: what is authenticated and not encrypted
@tfield[opt] int tag_bits of AES-GCM, 128 when left out
@tfield[opt] mechanism hash of RSA OAEP and PSS: the digest, "sha_1" when left out
@tfield[opt] int mgf of RSA OAEP and PSS: CKG_MGF1_SHA1 (1) when left out
@tfield[opt] string source of RSA OAEP: the label
@tfield[opt] int salt_len of RSA PSS, 20 bytes when left out
@tfield[opt] int kdf of ECDH: CKD_NULL (1) when left out
@tfield[opt] string public_data of ECDH: the other's point
@tfield[opt] string shared_data of ECDH
@tfield[opt] string parameter the bytes of any other mechanism's parameter, as they are
*/
void kf_lua_check_mechanism(lua_State *L, int index, struct kf_lua_mechanism *out)
{
    index = lua_absindex(L, index);
    *out = (struct kf_lua_mechanism){ .mechanism = { 0 } };
    if (!lua_istable(L, index)) {
        out->mechanism.mechanism = check_constant(L, index, "mechanism");
        return;
    }
    lua_rawgeti(L, index, 1);
    out->mechanism.mechanism = check_constant(L, -1, "mechanism");
    lua_pop(L, 1);
    fill(L, index, out);
}
