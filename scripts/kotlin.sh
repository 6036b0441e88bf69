#!/bin/bash
# Debian's Kotlin 1.3, which compiles the Android example in the tests, unpacked into .kotlin: three
# packages, without the hundred that the first depends on for other uses. Java must be there, or root
# to install it.
set -euo pipefail
cd "$(dirname "$0")/.."
[ ! -x .kotlin/kotlinc ] || exit 0
command -v java > /dev/null || {
  apt-get update -qq && apt-get install -y -qq default-jre-headless > /dev/null
}
rm -rf .kotlin
mkdir -p .kotlin/packages
packages=(-qq -o APT::Sandbox::User=root download kotlin
  libjetbrains-annotations-java libtrove-intellij-java)
(cd .kotlin/packages && { apt-get "${packages[@]}" || { apt-get update -qq && apt-get "${packages[@]}"; }; })
for package in .kotlin/packages/*.deb; do dpkg-deb -x "$package" .kotlin; done
rm -r .kotlin/packages
cat > .kotlin/kotlinc << 'END'
#!/bin/sh
jars=$(dirname "$0")/usr/share/java
exec java -Xmx1g -cp "$jars/kotlin-compiler.jar:$jars/kotlin-stdlib.jar:$jars/kotlin-reflect.jar:$jars/kotlin-script-runtime.jar:$jars/org.jetbrains.annotations-java8.jar:$jars/libtrove-intellij.jar" \
  org.jetbrains.kotlin.cli.jvm.K2JVMCompiler -no-stdlib -no-reflect -cp "$jars/kotlin-stdlib.jar" "$@"
END
chmod +x .kotlin/kotlinc
