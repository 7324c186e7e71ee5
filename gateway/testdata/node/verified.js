import { webcrypto } from 'node:crypto'
import express from 'express'
import { createRemoteJWKSet, jwtVerify } from 'jose'

globalThis.crypto ??= webcrypto // Node 18

const { JWKS, ISSUER, AUDIENCE, JWKS_MAX_AGE = 600 } = process.env
const keys = createRemoteJWKSet(new URL(JWKS), { cacheMaxAge: JWKS_MAX_AGE * 1000 })

const app = express()
app.use(async (req, res) => {
  const seen = { method: req.method, url: req.originalUrl, headers: req.rawHeaders }
  try {
    const { payload: claims } = await jwtVerify(req.get('X-Dssauth-Assertion'), keys, {
      issuer: ISSUER,
      audience: AUDIENCE,
      algorithms: ['EdDSA'],
      requiredClaims: ['sub', 'groups', 'iat', 'exp'],
    })
    res.json({ ...seen, login: claims.sub, groups: claims.groups, name: claims.name, email: claims.email, claims })
  } catch (e) {
    res.status(401).json({ ...seen, error: String(e) })
  }
})
const server = app.listen(0, '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}`))
