import express from 'express'

const app = express()
const words = (text = '') => text.split(',').filter(Boolean).map(decodeURIComponent)
app.use((req, res) => {
  const [login, name, email] = ['Remote-User', 'Remote-Name', 'Remote-Email'].map((h) => words(req.get(h))[0])
  res.json({ login, name, email, groups: words(req.get('Remote-Groups')), method: req.method, url: req.originalUrl, headers: req.rawHeaders })
})
const server = app.listen(0, '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}`))
