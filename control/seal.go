package control

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
)

// seal encrypts a sign-in under way for the cookie of that name. All control processes have the
// secret, so that any of them can take the browser back.
func seal(secret, cookie string, p pending) (string, error) {
	aead, err := sealer(secret)
	if err != nil {
		return "", err
	}
	data, err := json.Marshal(p)
	if err != nil {
		return "", fmt.Errorf("seal a sign-in: %w", err)
	}
	nonce := make([]byte, aead.NonceSize())
	_, _ = rand.Read(nonce) // never fails
	return base64.RawURLEncoding.EncodeToString(aead.Seal(nonce, nonce, data, []byte(cookie))), nil
}

// unseal is the reverse of seal.
func unseal(secret, cookie, value string) (p pending, err error) {
	aead, err := sealer(secret)
	if err != nil {
		return p, err
	}
	data, err := base64.RawURLEncoding.Strict().DecodeString(value)
	if err == nil && len(data) < aead.NonceSize() {
		err = errors.New("it is too short")
	}
	if err == nil {
		data, err = aead.Open(nil, data[:aead.NonceSize()], data[aead.NonceSize():], []byte(cookie))
	}
	if err == nil {
		err = json.Unmarshal(data, &p)
	}
	if err != nil {
		return pending{}, fmt.Errorf("unseal a sign-in: %w", err)
	}
	return p, nil
}

func sealer(secret string) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, []byte(secret), nil, "mpr control sign-in", 32)
	if err != nil {
		return nil, fmt.Errorf("derive a key: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("derive a key: %w", err)
	}
	return cipher.NewGCM(block)
}
