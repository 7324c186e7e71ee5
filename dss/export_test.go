package dss

// For fuzzing without a server in between.
var (
	DecodeAuthInfo   = decodeAuthInfo
	DecodeTicket     = decodeTicket
	HeaderDictionary = headerDictionary
	EncodeTexts      = encodeTexts
	PluginKey        = pluginKey
	RetryAfter       = retryAfter
	APIURL           = apiURL
	CheckTarget      = checkTarget
)
