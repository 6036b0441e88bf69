package android.graphics;

public final class ImageDecoder {
    public static final int ALLOCATOR_SOFTWARE = 1;
    public static class Source {}
    public static class ImageInfo {
        public android.util.Size getSize() { return null; }
    }
    public interface OnHeaderDecodedListener {
        void onHeaderDecoded(ImageDecoder decoder, ImageInfo info, Source source);
    }
    public static Source createSource(android.content.ContentResolver resolver, android.net.Uri uri) { return null; }
    public static Bitmap decodeBitmap(Source source, OnHeaderDecodedListener listener) { return null; }
    public int getAllocator() { return 0; }
    public void setAllocator(int allocator) {}
    public void setTargetSampleSize(int size) {}
}
