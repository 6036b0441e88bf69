package android.content;

public abstract class Context {
    public android.content.res.AssetManager getAssets() { return null; }
    public ContentResolver getContentResolver() { return null; }
}
